//! What the gateway tells others of where it is: in join tokens, in offers, in commands to copy.
//!
//! A setting goes before the configuration, and both before the address by which the asker came, which works wherever
//! nothing rewrites addresses on the way. Check-ins ask on every request, so the settings are kept here and not fetched
//! from the registry.

use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use shared::host_port::HostPort;

use super::browse::LOCALHOST;
use super::browse::label::label_of;
use super::peer::{Arrival, Peer};
use crate::domain::edge::Settings;

/// Where the API and the tunnel server are, for those outside.
#[derive(Debug)]
pub struct PublicAddresses {
    /// `--public-url`.
    url: Option<String>,
    /// `--public-ssh`.
    ssh: Option<String>,
    ssh_port: u16,
    /// `--service-domain`.
    service_domain: Option<String>,
    /// Guards the settings' part; held for a clone only.
    settings: RwLock<Overrides>,
}

#[derive(Clone, Debug)]
struct Overrides {
    url: Option<String>,
    ssh: Option<String>,
    service_domain: Option<String>,
}

impl From<&Settings> for Overrides {
    fn from(settings: &Settings) -> Self {
        Self {
            url: settings.public_url.clone(),
            ssh: settings.public_ssh.clone(),
            service_domain: settings.service_domain.clone(),
        }
    }
}

impl PublicAddresses {
    /// From the configuration, the port that the tunnel server listens on, and the settings as they were stored.
    pub fn new(url: Option<String>, ssh: Option<String>, ssh_port: u16, settings: &Settings) -> Self {
        Self { url, ssh, ssh_port, service_domain: None, settings: RwLock::new(settings.into()) }
    }

    /// The same with the domain of `--service-domain`.
    pub fn with_service_domain(self, service_domain: Option<String>) -> Self {
        Self { service_domain, ..self }
    }

    /// Takes over changed settings.
    pub fn update(&self, settings: &Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings.into();
    }

    /// Base URL of the API, without a slash at its end, for somebody who came as `peer` by `arrival`.
    pub fn api_url(&self, peer: Peer, arrival: &Arrival) -> String {
        let configured = self.configured_url();
        let scheme = if peer.secure { "https" } else { "http" };
        let url = configured.unwrap_or_else(|| format!("{scheme}://{}", arrival.0));
        url.trim_end_matches('/').to_owned()
    }

    /// Base URL that somebody configured, if somebody did.
    pub fn configured_url(&self) -> Option<String> {
        self.overrides().url.or_else(|| self.url.clone())
    }

    /// `host:port` of the tunnel server, for somebody who came by `arrival`.
    pub fn ssh(&self, arrival: &Arrival) -> String {
        let configured = self.overrides().ssh.or_else(|| self.ssh.clone());
        configured
            .unwrap_or_else(|| HostPort { host: arrival.host().to_owned(), port: self.ssh_port }.to_string())
    }

    /// Below which services have their origins, for a browser that came by `arrival`; `None` where no name can be had.
    pub fn service_domain(&self, arrival: &Arrival) -> Option<String> {
        let configured = self.overrides().service_domain.or_else(|| self.service_domain.clone());
        let host = arrival.host();
        let is_local =
            || host.eq_ignore_ascii_case(LOCALHOST) || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        configured.or_else(|| is_local().then(|| LOCALHOST.to_owned()))
    }

    /// The label of a service's origin, if `host` is one.
    pub fn service_label<'h>(&self, host: &'h str) -> Option<&'h str> {
        let overrides = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        let configured = overrides.service_domain.as_deref().or(self.service_domain.as_deref());
        configured.and_then(|domain| label_of(host, domain)).or_else(|| label_of(host, LOCALHOST))
    }

    fn overrides(&self) -> Overrides {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(secure: bool) -> Peer {
        Peer { address: ([192, 0, 2, 1], 5).into(), secure }
    }

    fn arrival(text: &str) -> Arrival {
        Arrival(text.parse().expect("an authority"))
    }

    #[test]
    fn what_nobody_configured_is_the_address_by_which_the_asker_came() {
        let public = PublicAddresses::new(None, None, 8000, &Settings::default());
        let came = arrival("gate.example.com:9000");
        assert_eq!(public.api_url(peer(true), &came), "https://gate.example.com:9000");
        assert_eq!(public.api_url(peer(false), &came), "http://gate.example.com:9000");
        assert_eq!(public.ssh(&came), "gate.example.com:8000");
        assert_eq!(public.ssh(&arrival("[::1]:9000")), "[::1]:8000");
        assert_eq!(public.ssh(&arrival("gate")), "gate:8000");
    }

    #[test]
    fn settings_go_before_the_configuration_at_once() {
        let configured = (Some("https://configured/".to_owned()), Some("configured:22".to_owned()));
        let public = PublicAddresses::new(configured.0, configured.1, 8000, &Settings::default());
        let came = arrival("gate");
        assert_eq!(public.api_url(peer(false), &came), "https://configured");
        assert_eq!(public.ssh(&came), "configured:22");
        public.update(&Settings {
            public_url: Some("https://set".into()),
            public_ssh: Some("set:22".into()),
            ..Settings::default()
        });
        assert_eq!(public.api_url(peer(false), &came), "https://set");
        assert_eq!(public.ssh(&came), "set:22");
    }

    #[test]
    fn services_have_origins_below_what_is_configured_or_on_the_machine_itself() {
        let public = PublicAddresses::new(None, None, 8000, &Settings::default());
        assert_eq!(public.service_domain(&arrival("gate.example.com:9000")), None);
        assert_eq!(public.service_domain(&arrival("192.0.2.7:9000")), None);
        for local in ["localhost:9000", "127.0.0.1:9000", "[::1]:9000"] {
            assert_eq!(public.service_domain(&arrival(local)).as_deref(), Some("localhost"));
        }
        assert_eq!(public.service_label("web--shop.localhost"), Some("web--shop"));
        assert_eq!(public.service_label("web--shop.svc.example.com"), None);
        let public = public.with_service_domain(Some("svc.example.com".to_owned()));
        assert_eq!(public.service_domain(&arrival("localhost")).as_deref(), Some("svc.example.com"));
        assert_eq!(public.service_label("web--shop.svc.example.com"), Some("web--shop"));
        public.update(&Settings { service_domain: Some("apps.example.com".into()), ..Settings::default() });
        assert_eq!(public.service_label("web--shop.svc.example.com"), None);
        assert_eq!(public.service_label("web--shop.apps.example.com"), Some("web--shop"));
    }
}
