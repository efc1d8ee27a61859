//! `tidegate-agent doctor`: what keeps this agent from its gateway or from its services, and how to mend it.
//!
//! The rule: it changes nothing and never checks in. The first check-in with a key binds it, and that is the agent's
//! own business.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Instant, SystemTime};

use futures_util::future::join_all;
use nix::unistd::{AccessFlags, access};
use shared::dial::Dialer;
use shared::host_port::HostPort;
use shared::id::EdgeId;
use shared::join_token::JoinToken;
use shared::probe;
use shared::report::{Check, Report};
use shared::wire::check_in::{Authorization, Identity};

use crate::client::Endpoint;
use crate::config::{Config, ConfigError};
use crate::services::{DIAL_TIMEOUT, Service};
use crate::state;
use crate::status::socket::{AskError, ask};
use crate::status::{Answer, Status};

/// Looks at everything.
pub async fn examine(data_dir: &Path, config: Result<Config, ConfigError>) -> Report {
    let mut report = Report::default();
    report.add(match &config {
        Ok(config) => Check::ok("configuration", format!("valid, {} services", config.services.len())),
        Err(error) => Check::fail(
            "configuration",
            error.to_string(),
            "correct it: `tidegate-agent check-config` takes the same options, `--help` lists them",
        ),
    });
    report.add(data_folder(data_dir));
    report.add(running(ask(data_dir)));
    let given = config.as_ref().ok().and_then(|config| config.join_token.clone());
    let (token, check) = join_token(data_dir, given);
    report.add(check);
    if let Some(token) = token {
        let ca_file = config.as_ref().ok().and_then(|config| config.ca_file.as_deref());
        gateway(&token, ca_file, &mut report).await;
    }
    if let Ok(config) = &config {
        let services = join_all(config.services.iter().map(service)).await;
        services.into_iter().for_each(|check| report.add(check));
    }
    report
}

fn data_folder(folder: &Path) -> Check {
    let (name, shown) = ("data folder", folder.display());
    let metadata = match folder.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Check::warn(
                name,
                format!("{shown} is not there yet"),
                "start the agent, or name its folder with --data-dir",
            );
        }
        Err(error) => {
            return Check::fail(
                name,
                format!("can't look at {shown}: {error}"),
                "run this as the agent's user",
            );
        }
    };
    if access(folder, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        let next = format!("let the agent's user own it, or run this as that user: chown -R AGENT '{shown}'");
        return Check::fail(name, format!("{shown} can't be written to by this user"), next);
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        let found = format!("{shown} is open to other users, and holds what this edge proves itself with");
        return Check::warn(name, found, format!("chmod 0700 '{shown}'"));
    }
    Check::ok(name, format!("{shown}, closed to other users"))
}

fn running(status: Result<Status, AskError>) -> Check {
    let name = "agent";
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            let next =
                "start it: `systemctl start tidegate-agent`, or `tidegate-agent`; its log says why it ended";
            return Check::fail(name, error.to_string(), next);
        }
    };
    let reason =
        |status: &Status| status.check_in.as_ref().and_then(|last| last.reason.clone()).unwrap_or_default();
    match (&status.gateway, status.check_in.as_ref().map(|last| last.result)) {
        (None, _) => Check::fail(
            name,
            "it runs and waits for a join token",
            "give it one: --join-token-file, or paste it into the page whose address its log has",
        ),
        (Some(_), Some(Answer::Refused)) => Check::fail(
            name,
            format!("it runs, and its gateway refuses it: {}", reason(&status)),
            "do what the reason says; the gateway's admin sees this edge with `tidegate edge show`",
        ),
        (Some(_), Some(Answer::Unreachable)) if !status.ready => Check::fail(
            name,
            format!("it runs and gets no answer: {}", reason(&status)),
            "see the checks below",
        ),
        (Some(_), None) => {
            Check::warn(name, "it runs and has not checked in yet", "wait a moment and ask again")
        }
        (Some(gateway), Some(Answer::Answered | Answer::Unreachable)) => {
            let ago = status.answered_s_ago.unwrap_or_default();
            let way = match (status.held_s, status.cut_after_s) {
                (Some(held), None) => {
                    format!(", and holds check-ins for up to {held} s: it reaches this agent at once")
                }
                (Some(held), Some(cut)) => format!(
                    ", and holds check-ins for up to {held} s, since something on the way cuts them off after {cut} s"
                ),
                (None, Some(cut)) => format!(
                    "; it can't hold check-ins, which something on the way cuts off after {cut} s: it waits for the \
                     next one, every {} s",
                    status.interval_s
                ),
                (None, None) => format!("; check-ins come every {} s", status.interval_s),
            };
            Check::ok(name, format!("it runs; {gateway} answered {ago} s ago{way}"))
        }
    }
}

/// The token in force: the one that is given, else the one that is kept.
fn join_token(folder: &Path, given: Option<JoinToken>) -> (Option<JoinToken>, Check) {
    let name = "join token";
    let good = |token: JoinToken, whence: &str| {
        let check = Check::ok(name, format!("{whence}, for {}", token.api_url));
        (Some(token), check)
    };
    if let Some(token) = given {
        return good(token, "given");
    }
    match state::kept_join_token(folder) {
        Ok(Some(token)) => good(token, "kept in the data folder"),
        Ok(None) => {
            let next = "get one with `tidegate edge create NAME` and give it with --join-token-file";
            (None, Check::fail(name, "there is none", next))
        }
        Err(error) => {
            (None, Check::fail(name, error.to_string(), "give a join token anew with --join-token-file"))
        }
    }
}

async fn gateway(token: &JoinToken, ca_file: Option<&Path>, report: &mut Report) {
    let dialer = Dialer::from_environment();
    // Never sent: `Endpoint::look` shows no authorization. It must be there to make an endpoint.
    let identity = Identity {
        authorization: Authorization { edge_id: EdgeId::random(), key: token.key.clone() },
        instance: shared::id::InstanceId::random(),
    };
    match Endpoint::new(token, &identity, ca_file, dialer.clone()) {
        Ok(endpoint) => api(&endpoint, token, &dialer, report).await,
        Err(error) => report.add(Check::fail(
            "port of check-ins",
            error.to_string(),
            "get a new join token from the gateway's admin, or correct --ca-file",
        )),
    }
    match token.ssh.parse() {
        Ok(address) => report.add(ssh(&address, token, &dialer).await),
        Err(_) => report.add(Check::fail(
            "port of tunnels",
            format!("the join token names {:?}, which is no HOST:PORT", token.ssh),
            "get a new join token from the gateway's admin",
        )),
    }
}

async fn api(endpoint: &Endpoint, token: &JoinToken, dialer: &Dialer, report: &mut Report) {
    let (name, address) = ("port of check-ins", endpoint.address());
    let way = if dialer.uses_proxy(address) { " through the proxy" } else { "" };
    let asked = Instant::now();
    match endpoint.look().await {
        Ok(there) => {
            let known = match (token.api_url.starts_with("https://"), token.tls_pins.is_empty()) {
                (false, _) => "without TLS",
                (true, false) => "with the pinned key",
                (true, true) => "with a certificate that verifies",
            };
            report.add(Check::ok(name, format!("{address} answers{way}, {known}")));
            if let Some(there) = there {
                report.add(Check::clock(there, SystemTime::now(), asked.elapsed()));
            }
        }
        Err(reason) => report.add(Check::fail(name, reason, if way.is_empty() {
            "let this machine reach it, or name an HTTP proxy in HTTPS_PROXY; see that the gateway runs and that its public URL is right"
        } else {
            "see that the proxy in HTTPS_PROXY or ALL_PROXY allows CONNECT to it, or except it with NO_PROXY"
        })),
    }
}

async fn ssh(address: &HostPort, token: &JoinToken, dialer: &Dialer) -> Check {
    let name = "port of tunnels";
    let way = if dialer.uses_proxy(address) { " through the proxy" } else { "" };
    match probe::host_key(dialer, address).await {
        Ok(key) if token.host_keys.contains(&key) => {
            Check::ok(name, format!("{address} answers{way}, with the pinned host key"))
        }
        Ok(key) => Check::fail(
            name,
            format!("{address} shows the host key {key}, which is not pinned"),
            "if the gateway was set up anew, get a new join token from its admin; if not, somebody may be listening in",
        ),
        Err(error) => Check::fail(
            name,
            error.to_string(),
            "tunnels can't open: let this machine reach that port too, directly or through the proxy",
        ),
    }
}

async fn service(service: &Service) -> Check {
    let name = format!("service {}", service.name);
    match service.target.connect(DIAL_TIMEOUT).await {
        Ok(_) => Check::ok(name, format!("{} accepts connections", service.target)),
        Err(error) => Check::fail(
            name,
            error.to_string(),
            "start what listens there, correct --expose, or let the agent's user use its socket",
        ),
    }
}

#[cfg(test)]
mod tests {
    use shared::report::Outcome;

    use super::*;

    #[test]
    fn a_folder_that_others_can_read_comes_with_the_command_that_closes_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mode = |mode| {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).expect("ours")
        };
        mode(0o700);
        assert_eq!(data_folder(folder.path()).outcome, Outcome::Ok);
        mode(0o755);
        let open = data_folder(folder.path());
        assert_eq!(open.outcome, Outcome::Warning);
        assert!(open.next.expect("what to do").contains("chmod 0700"));
    }

    #[tokio::test]
    async fn a_machine_with_nothing_on_it_says_what_to_do_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let wrong = "shop".parse::<Service>().expect_err("no service");
        let report = examine(folder.path(), Err(wrong.into())).await;
        let next = |name: &str| {
            let check = report.checks.iter().find(|check| check.name == name).expect(name);
            assert_eq!(check.outcome, Outcome::Failure, "{check:?}");
            check.next.clone().expect("a failure says what to do")
        };
        assert!(next("configuration").contains("check-config"));
        assert!(next("agent").contains("start"));
        assert!(next("join token").contains("tidegate edge create"));
    }

    #[tokio::test]
    async fn a_service_that_does_not_listen_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let web: Service = format!("web={address}").parse().expect("a service");
        assert_eq!(service(&web).await.outcome, Outcome::Ok);
        drop(listener);
        let gone = service(&web).await;
        assert_eq!((gone.name.as_str(), gone.outcome), ("service web", Outcome::Failure));
    }
}
