//! The gateway as it answers from here: both ports, its keys, its parts, its clock, its version.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use http::{Method, StatusCode};
use shared::dial::Dialer;
use shared::fingerprint::{HostKeyFingerprint, TlsFingerprint};
use shared::host_port::HostPort;
use shared::probe::{self, Certificate};
use shared::report::{Check, Report};
use shared::wire::admin::{Gateway, Health, HealthStatus};
use shared::wire::date;

use super::{Here, certificate_end};
use crate::cli::access::{Access, Known, Target};
use crate::cli::client::{Client, NOTHING};
use crate::cli::exit::CliError;
use crate::cli::healthcheck::local;
use crate::identity::certificate_file;

/// Where the SSH server is unless somebody says otherwise.
const SSH_PORT: u16 = 8000;
/// Looks at the gateway from here.
pub(super) async fn look(access: &Access, here: Here<'_>, report: &mut Report) {
    let Known { target, pins, token } = match access.known() {
        Ok(known) => known,
        Err(error) => {
            return report.add(Check::fail(
                "gateway",
                error.to_string(),
                "correct how the gateway is named and known",
            ));
        }
    };
    // Where none is named, it is the one of this machine, known by the certificate in its data folder.
    let pins = if pins.is_empty() && target.is_none() { own_pin(here) } else { pins };
    let target = match target.map_or_else(|| Target::parse(&own_url(here)), Ok) {
        Ok(target) => target,
        Err(error) => return report.add(Check::fail("gateway", error.to_string(), "correct TIDEGATE_URL")),
    };
    let dialer = Dialer::from_environment();
    if !api_port(&target, &pins, &dialer, report).await {
        return;
    }
    let client = match access.trust().client(target.clone(), &pins, token.as_ref()) {
        Ok(client) => client,
        Err(error) => {
            return report.add(Check::fail("gateway", error.to_string(), "correct how the gateway is known"));
        }
    };
    if !health(&client, report).await {
        return;
    }
    let gateway = told(token.is_some(), &client, report).await;
    let host_keys: Vec<HostKeyFingerprint> =
        gateway.iter().flat_map(|gateway| &gateway.host_keys).map(|key| key.fingerprint).collect();
    ssh_port(&ssh_address(&target, gateway.as_ref(), here), &host_keys, &dialer, report).await;
    if let Some(gateway) =
        gateway.filter(|gateway| gateway.public_url != format!("https://{}", target.authority))
    {
        report.add(public_url(&gateway, &dialer).await);
    }
}

fn own_url(here: Here<'_>) -> String {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 9000));
    format!("https://{}", here.map_or(loopback, |config| local(config.api_addr)))
}

fn own_pin(here: Here<'_>) -> Vec<TlsFingerprint> {
    let served = here.and_then(|config| Certificate::from_pem_file(&certificate_file(config)).ok());
    served.map(|served| served.fingerprint).into_iter().collect()
}

async fn api_port(target: &Target, pins: &[TlsFingerprint], dialer: &Dialer, report: &mut Report) -> bool {
    let (name, address) = ("port of the API", &target.address);
    let next = "see that the gateway runs, that TIDEGATE_URL names it, and that no firewall is in between";
    if !target.secure {
        let reached = dialer.dial(address).await;
        let check = match &reached {
            Ok(_) => Check::ok(name, format!("{address} answers, without TLS")),
            Err(error) => Check::fail(name, error.to_string(), next),
        };
        report.add(check);
        return reached.is_ok();
    }
    let shown = match probe::certificate(dialer, address).await {
        Ok(shown) => shown,
        Err(error) => {
            report.add(Check::fail(name, error.to_string(), next));
            return false;
        }
    };
    report.add(Check::ok(name, format!("{address} answers with TLS")));
    let key = shown.fingerprint;
    let host = &address.host;
    report.add(if pins.contains(&key) {
        Check::ok("TLS key", format!("{key}, as pinned"))
    } else if !pins.is_empty() {
        Check::fail(
            "TLS key",
            format!("{key}, and another one is pinned"),
            "compare it with the gateway's log (tls_fingerprint): if it is the gateway's, set TIDEGATE_TLS_FINGERPRINT to it; \
             if not, somebody may be listening in",
        )
    } else if shown.is_for(host) {
        Check::ok("TLS key", format!("{key}, not pinned; the certificate is for {host}"))
    } else {
        Check::fail(
            "TLS key",
            format!("{key}, not pinned, and the certificate is not for {host}"),
            "set TIDEGATE_TLS_FINGERPRINT to the fingerprint that the gateway logs on start",
        )
    });
    let renew = "renew it: one that the gateway made itself is made anew at a restart";
    let whose = "the certificate that it shows";
    report.add(certificate_end("certificate", whose, shown.not_after(), SystemTime::now(), renew));
    pins.is_empty() || pins.contains(&key)
}

/// What `/readyz` says, and what time it is there.
async fn health(client: &Client, report: &mut Report) -> bool {
    let asked = Instant::now();
    let answer = match client.probe("/readyz").await {
        Ok(answer) => answer,
        Err(error) => {
            let next = match error {
                CliError::Distrusted(_) => {
                    "compare the TLS key above with the gateway's log (tls_fingerprint), and pin it"
                }
                CliError::Configuration(_)
                | CliError::Refused(_)
                | CliError::Unreachable(_)
                | CliError::Problem(_)
                | CliError::Failed(_) => "see the gateway's log",
            };
            report.add(Check::fail("health", error.to_string(), next));
            return false;
        }
    };
    if let Some(there) = date(answer.headers()) {
        report.add(Check::clock(there, SystemTime::now(), asked.elapsed()));
    }
    let Ok(health) = serde_json::from_slice::<Health>(answer.body()) else {
        let found = format!("it answered {} and not as a gateway does", answer.status());
        report.add(Check::fail(
            "health",
            found,
            "see that TIDEGATE_URL names a Tidegate gateway and not something else",
        ));
        return false;
    };
    for (part, state) in health.parts {
        let (name, reason) = (format!("part {part}"), state.reason.unwrap_or_else(|| "not ready".to_owned()));
        report.add(match (state.status, part.as_str()) {
            (HealthStatus::Ok, _) => Check::ok(name, "ready"),
            (HealthStatus::Unavailable, "store" | "audit") => Check::fail(
                name,
                reason,
                "look at the disk of the gateway: full, read-only or broken; it goes on by itself once it can write again",
            ),
            (HealthStatus::Unavailable, _) => Check::fail(name, reason, "see the gateway's log; restart it"),
        });
    }
    true
}

/// What only those with a token are told.
async fn told(has_token: bool, client: &Client, report: &mut Report) -> Option<Gateway> {
    if !has_token {
        report.add(Check::warn(
            "API token",
            "none is given, so the SSH host key can't be compared",
            "log in with `tidegate login`, or set TIDEGATE_TOKEN_FILE",
        ));
        return None;
    }
    match client.call::<Gateway>(Method::GET, "/api/v1/gateway", NOTHING).await {
        Ok(gateway) => {
            report.add(Check::ok("API token", "accepted"));
            report.add(version(&gateway.version));
            Some(gateway)
        }
        Err(CliError::Problem(problem)) if problem.status == StatusCode::UNAUTHORIZED.as_u16() => {
            let next = "make a new one with `tidegate token create`, or log in anew";
            report.add(Check::fail("API token", format!("refused: {}", problem.detail), next));
            None
        }
        Err(error) => {
            report.add(Check::fail("API token", error.to_string(), "see the gateway's log"));
            None
        }
    }
}

fn version(theirs: &str) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    if theirs == ours {
        return Check::ok("version", format!("{ours}, the gateway's too"));
    }
    let found = format!("this program is {ours}, the gateway {theirs}");
    Check::warn("version", found, "use the program of the gateway's version: the changelog says what changed")
}

fn ssh_address(target: &Target, gateway: Option<&Gateway>, here: Here<'_>) -> HostPort {
    let told = gateway.and_then(|gateway| gateway.public_ssh.parse().ok());
    let ours = || here.and_then(|config| local(config.ssh_addr).to_string().parse().ok());
    told.or_else(ours).unwrap_or_else(|| HostPort { host: target.address.host.clone(), port: SSH_PORT })
}

async fn ssh_port(address: &HostPort, expected: &[HostKeyFingerprint], dialer: &Dialer, report: &mut Report) {
    let name = "port of tunnels";
    match probe::host_key(dialer, address).await {
        Ok(key) => {
            report.add(Check::ok(name, format!("{address} answers with SSH")));
            report.add(if expected.contains(&key) {
                Check::ok("SSH host key", format!("{key}, the gateway's"))
            } else if expected.is_empty() {
                Check::ok("SSH host key", format!("{key}, not compared"))
            } else {
                Check::fail(
                    "SSH host key",
                    format!("{address} shows {key}, which is not the gateway's"),
                    "see that --public-ssh names this gateway and no other SSH server; if it does, somebody may be listening in",
                )
            });
        }
        Err(error) => report.add(Check::fail(
            name,
            error.to_string(),
            "agents can't open tunnels: let port 8000 through to the gateway as it is, and see that --public-ssh names it",
        )),
    }
}

async fn public_url(gateway: &Gateway, dialer: &Dialer) -> Check {
    let (name, url) = ("public URL", &gateway.public_url);
    let next = "agents use this address: correct --public-url (or `tidegate settings set --public-url`), or let port 9000 \
                through to the gateway";
    let Ok(target) = Target::parse(url) else {
        return Check::fail(name, format!("{url} is no URL of a gateway"), next);
    };
    if !target.secure {
        return match dialer.dial(&target.address).await {
            Ok(_) => {
                Check::warn(name, format!("{url} can be reached, without TLS"), "let agents use https://")
            }
            Err(error) => Check::fail(name, error.to_string(), next),
        };
    }
    match probe::certificate(dialer, &target.address).await {
        Ok(shown) if gateway.tls_pins.contains(&shown.fingerprint) => {
            Check::ok(name, format!("{url} can be reached, with the key that agents pin"))
        }
        Ok(shown) if gateway.tls_pins.is_empty() && shown.is_for(&target.address.host) => {
            Check::ok(name, format!("{url} can be reached, and its certificate is for it"))
        }
        Ok(shown) => {
            let found =
                format!("{url} shows {}, by which agents do not know this gateway", shown.fingerprint);
            Check::fail(name, found, next)
        }
        Err(error) => Check::fail(name, error.to_string(), next),
    }
}
