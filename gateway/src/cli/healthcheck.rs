//! `tidegate healthcheck`: asks the gateway of this machine how it is, for containers.
//!
//! It takes the options of `serve`, so that it asks the way the gateway was told to serve: plain HTTP where a loopback
//! peer may speak it, else TLS with the very certificate that the gateway serves.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::StatusCode;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use shared::dial::Dialer;
use shared::tls;
use shared::wire::admin::{Health, HealthStatus};

use super::access::Target;
use super::client::Client;
use super::exit::CliError;
use crate::config::{Config, PlainHttp};
use crate::identity::certificate_file;

/// Fails unless the gateway lives or, with `ready`, unless every part of it can do its work.
pub async fn healthcheck(config: &Config, ready: bool) -> Result<(), CliError> {
    let client = client(config)?;
    let path = if ready { "/readyz" } else { "/healthz" };
    let answer = client.probe(path).await?;
    if answer.status() == StatusCode::OK {
        return Ok(());
    }
    Err(CliError::Failed(format!("the gateway answered {}{}", answer.status(), reasons(answer.body()))))
}

fn client(config: &Config) -> Result<Client, CliError> {
    let address = local(config.api_addr);
    let plain = match config.plain_http {
        PlainHttp::Any => true,
        PlainHttp::Loopback => address.ip().is_loopback(),
        PlainHttp::Never => false,
    };
    if plain {
        return Client::new(Target::parse(&format!("http://{address}"))?, None, None, Dialer::direct());
    }
    let file = certificate_file(config);
    let unusable = |error: String| CliError::Configuration(format!("can't use {}: {error}", file.display()));
    let certificate = CertificateDer::from_pem_file(&file).map_err(|error| unusable(error.to_string()))?;
    let pin = tls::fingerprint_of(&certificate).map_err(|error| unusable(error.to_string()))?;
    let tls = tls::client_config(&[pin], None).map_err(|error| CliError::Configuration(error.to_string()))?;
    Client::new(Target::parse(&format!("https://{address}"))?, Some(tls), None, Dialer::direct())
}

/// Where a listener on `address` is reached from the same machine.
pub fn local(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// What is wrong with which part.
fn reasons(body: &[u8]) -> String {
    let Ok(health) = serde_json::from_slice::<Health>(body) else { return String::new() };
    let parts = health.parts.into_iter().filter(|(_, part)| part.status == HealthStatus::Unavailable);
    parts.fold(String::new(), |mut text, (name, part)| {
        let _ = write!(text, "; {name}: {}", part.reason.unwrap_or_else(|| "unavailable".to_owned()));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_on_every_address_is_asked_on_loopback() {
        for (listener, asked) in
            [("0.0.0.0:9000", "127.0.0.1:9000"), ("[::]:9000", "[::1]:9000"), ("192.0.2.7:1", "192.0.2.7:1")]
        {
            assert_eq!(local(listener.parse().expect("an address")).to_string(), asked);
        }
    }

    #[test]
    fn parts_that_are_not_ready_are_named() {
        let body = br#"{"status":"unavailable","parts":{"http":{"status":"ok"},"store":{"status":"unavailable","reason":"disk full"}}}"#;
        assert_eq!(reasons(body), "; store: disk full");
        assert_eq!(reasons(b"<html>"), "");
    }
}
