//! A stock SSH client in the place of an agent: what `tidegate edge offer` prints, pasted into a shell of a box that has
//! nothing but OpenSSH, or OpenSSH and autossh.

use std::fmt::Display;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use hyper::Method;
use shared::wire::admin::{CreateEdge, EdgeStatus, OfferCreated, OfferSecret, TunnelState};
use tempfile::TempDir;
use tests::fakes::http::Web;
use tests::gateway::Gateway;
use tests::process::{Ended, Log, Process, run};
use tests::site::EDGE;
use tests::tool;
use tests::wait::{SOON, until};

/// What the gateway logs when the client's services are known.
const OPEN: &str = "tunnel open to a stock client";
/// The shortest idle time that there is.
const IDLE_S: u32 = 10;
/// A well-formed host key that is not the gateway's.
const OTHER_HOST_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

/// A gateway, an edge without an agent, a box with a web server, and a home folder on it.
struct Kiosk {
    gateway: Gateway,
    web: Web,
    home: TempDir,
}

impl Kiosk {
    async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    async fn start_with(change: impl FnOnce(&mut CreateEdge)) -> Self {
        // The box's script names both; a missing one is to fail here, with its name.
        tool::path("ssh", "openssh-client");
        let gateway = Gateway::start().await;
        gateway.admin.create_with(EDGE, change).await;
        let home = TempDir::new().expect("the folder for temporary files is writable");
        Self { gateway, web: Web::start().await, home }
    }

    /// `tidegate edge offer`, for services that are all the same web server.
    async fn offer(&self, services: &[&str], more: &[&str]) -> OfferCreated {
        let services: Vec<_> = services.iter().map(|name| self.service(name)).collect();
        let mut args = vec!["edge", "offer", EDGE, "--output", "json"];
        for service in &services {
            args.extend(["--service", service]);
        }
        args.extend(more);
        let printed = run(self.gateway.cli(&args)).await.ok();
        serde_json::from_str(&printed.stdout).unwrap_or_else(|error| panic!("{error}: {}", printed.stdout))
    }

    fn service(&self, name: &dyn Display) -> String {
        format!("{name}={}", self.web.address)
    }

    /// A shell on the box that runs `script`, which may ask for `password`.
    fn shell(&self, script: &str, password: &str) -> Command {
        let askpass = self.home.path().join("askpass");
        // ssh takes a password from a terminal or from a program.
        std::fs::write(&askpass, "#!/bin/sh\nprintf '%s\\n' \"$OFFER_PASSWORD\"\n")
            .expect("the folder is ours");
        std::fs::set_permissions(&askpass, std::fs::Permissions::from_mode(0o700)).expect("the file is ours");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]).env("HOME", self.home.path());
        shell
            .env("SSH_ASKPASS", &askpass)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("OFFER_PASSWORD", password);
        shell
    }

    fn paste(&self, offer: &OfferCreated) -> Process {
        Process::start("the box's SSH client", self.shell(&offer.command, password(offer)), &Log::default())
    }

    /// A client that is expected to give up by itself.
    async fn fails(&self, script: &str, password: &str) -> Ended {
        let ended = run(self.shell(script, password)).await;
        assert_ne!(ended.code, 0, "{ended:?}");
        ended
    }

    async fn get(&self, service: &str) -> String {
        self.gateway.admin.get(&Gateway::proxy_path(EDGE, service, "/hello")).await.expect(200).text()
    }

    async fn wait_idle(&self) {
        self.gateway.admin.wait_tunnel(EDGE, TunnelState::Idle).await;
    }
}

fn password(offer: &OfferCreated) -> &str {
    match &offer.secret {
        OfferSecret::Password { password } => password,
        OfferSecret::Key { .. } => "",
    }
}

#[tokio::test]
async fn pasted_command_serves_waiting_requests_and_works_once() {
    let kiosk = Kiosk::start().await;
    let offer = kiosk.offer(&["web", "shop", "last"], &[]).await;
    // Whoever waited is let through when all is announced, to the last service as to the first.
    let (first, last, mut client) = tokio::join!(kiosk.get("web"), kiosk.get("last"), async {
        until(SOON, "somebody waits", async || {
            (kiosk.gateway.admin.tunnel(EDGE).await.holds == 2).then_some(())
        })
        .await;
        kiosk.paste(&offer)
    });
    assert_eq!((first.as_str(), last.as_str()), ("hello", "hello"));

    let edge = kiosk.gateway.admin.edge(EDGE).await;
    assert_eq!((edge.status, edge.instances.len(), edge.offers.len()), (EdgeStatus::TunnelOpen, 0, 0));
    let names: Vec<_> =
        edge.stock_client.iter().flat_map(|client| &client.services).map(|n| n.as_str()).collect();
    assert_eq!(names, ["last", "shop", "web"]);
    let shown = run(kiosk.gateway.cli(&["edge", "show", EDGE])).await.ok().stdout;
    assert!(shown.contains("a stock SSH client"), "{shown}");
    let snapshot = kiosk.gateway.admin.call(Method::POST, &format!("/api/v1/edges/{EDGE}/snapshot")).await;
    assert!(snapshot.problem(503).detail.contains("takes no snapshots"));

    kiosk.gateway.admin.lower(EDGE).await;
    client.exit(SOON).await;
    let again = kiosk.fails(&offer.command, password(&offer)).await;
    assert!(again.stderr.contains("Permission denied"), "{again:?}");
    assert_eq!(kiosk.gateway.admin.edge(EDGE).await.status, EdgeStatus::Offline);
}

#[tokio::test]
async fn idle_tunnel_of_a_stock_client_is_closed_by_the_gateway() {
    let kiosk = Kiosk::start_with(|edge| edge.idle_timeout_s = Some(IDLE_S)).await;
    let mut client = kiosk.paste(&kiosk.offer(&["web"], &[]).await);
    kiosk.gateway.admin.wait_tunnel(EDGE, TunnelState::Open).await;
    assert_eq!(kiosk.get("web").await, "hello");
    kiosk.wait_idle().await;
    assert!(!client.exit(SOON).await.success());
    assert!(kiosk.gateway.log().contains("\"reason\":\"idle\""), "the log says why");
}

#[tokio::test]
async fn only_the_services_that_the_offer_names_can_be_announced() {
    let kiosk = Kiosk::start().await;
    let offer = kiosk.offer(&["web"], &[]).await;
    let greedy = offer.command.replace("web:", "docker:");
    let refused = kiosk.fails(&greedy, password(&offer)).await;
    assert!(refused.stderr.contains("remote port forwarding failed"), "{refused:?}");
    kiosk.wait_idle().await;

    let offer = kiosk.offer(&["web"], &[]).await;
    let port = kiosk.gateway.ssh().port();
    let outward = offer.command.replace("ssh -N", &format!("ssh -W 127.0.0.1:{port}"));
    kiosk.fails(&outward, password(&offer)).await;
}

#[tokio::test]
async fn client_refuses_a_gateway_with_another_host_key_and_keeps_its_credentials() {
    let kiosk = Kiosk::start().await;
    let offer = kiosk.offer(&["web"], &[]).await;
    let key = offer.known_hosts.split_once(' ').expect("a name and a key").1.trim_end();
    assert!(offer.command.contains(key), "the command pins it");
    let refused = kiosk.fails(&offer.command.replace(key, OTHER_HOST_KEY), password(&offer)).await;
    assert!(refused.stderr.contains("Host key verification failed"), "{refused:?}");
    let _client = kiosk.paste(&offer);
    kiosk.gateway.admin.wait_tunnel(EDGE, TunnelState::Open).await;
}

#[tokio::test]
async fn autossh_comes_back_after_cuts_and_restarts_until_its_key_is_revoked() {
    tool::path("autossh", "autossh");
    let mut kiosk = Kiosk::start().await;
    let offer = kiosk.offer(&["web"], &["--renew", "--valid", "1h"]).await;
    let log = kiosk.gateway.log().clone();
    let _client = kiosk.paste(&offer);
    log.wait_for(OPEN, SOON).await;
    assert_eq!(kiosk.get("web").await, "hello");

    let second = offer.command.replace("AUTOSSH_GATETIME=0 autossh -M 0", "ssh");
    let refused = kiosk.fails(&second, "").await;
    assert!(refused.stderr.contains("Permission denied"), "{refused:?}");
    assert_eq!(kiosk.get("web").await, "hello");

    let so_far = log.len();
    kiosk.gateway.admin.lower(EDGE).await;
    log.wait_for_after(so_far, OPEN, SOON).await;
    assert_eq!(kiosk.get("web").await, "hello");

    let so_far = log.len();
    kiosk.gateway.kill_and_resume().await;
    log.wait_for_after(so_far, OPEN, SOON).await;
    assert_eq!(kiosk.get("web").await, "hello");

    run(kiosk.gateway.cli(&["edge", "offer", EDGE, "--revoke"])).await.ok();
    kiosk.wait_idle().await;
    let refused = kiosk.fails(&second, "").await;
    assert!(refused.stderr.contains("Permission denied"), "{refused:?}");
    let edge = kiosk.gateway.admin.edge(EDGE).await;
    assert_eq!((edge.status, edge.offers.len()), (EdgeStatus::Offline, 0));
}
