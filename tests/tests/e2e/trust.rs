//! Each side is who its pins say, or nothing happens.

use std::path::Path;

use shared::fingerprint::{HostKeyFingerprint, TlsFingerprint};
use shared::join_token::JoinToken;
use shared::wire::admin::TunnelState;
use tempfile::TempDir;
use tests::agent::AgentOptions;
use tests::fakes::http::Web;
use tests::gateway::{Gateway, GatewayOptions};
use tests::process::run;
use tests::site::EDGE;
use tests::tool;
use tests::wait::{SOON, until};

/// The edge's join token with a change that its checksum does not tell.
fn forged(token: &str, change: impl FnOnce(&mut JoinToken)) -> String {
    let mut token: JoinToken = token.parse().expect("the gateway makes good tokens");
    change(&mut token);
    token.expose()
}

#[tokio::test]
async fn agent_refuses_a_tunnel_server_with_another_host_key_and_the_operator_is_told() {
    let web = Web::start().await;
    let gateway = Gateway::start().await;
    let edge = gateway.admin.create(EDGE).await;
    let token =
        forged(&edge.join_token, |token| token.host_keys = vec![HostKeyFingerprint::from_bytes([1; 32])]);
    let agent = AgentOptions::with_token(&token).expose("web", web.url()).start();
    gateway.admin.wait_online(EDGE).await;
    gateway.admin.raise(EDGE).await;
    let tunnel = until(SOON, "the operator is told", async || {
        let tunnel = gateway.admin.tunnel(EDGE).await;
        assert_ne!(tunnel.state, TunnelState::Open);
        tunnel.reason.clone().filter(|reason| reason.contains("host key"))
    });
    tunnel.await;
    assert!(agent.log().contains("host key"), "{}", agent.log().text());
    let problem = gateway.admin.get(&Gateway::proxy_path(EDGE, "web", "/hello")).await.problem(504);
    assert!(problem.detail.contains("host key"), "{problem:?}");
}

#[tokio::test]
async fn agent_refuses_a_gateway_with_another_tls_key_and_tells_it_nothing() {
    let gateway = Gateway::start().await;
    let edge = gateway.admin.create(EDGE).await;
    let token = forged(&edge.join_token, |token| token.tls_pins = vec![TlsFingerprint::from_bytes([1; 32])]);
    let mut agent = AgentOptions::with_token(&token).start();
    agent.log().wait_for("fingerprint", SOON).await;
    assert!(agent.process().runs(), "the gateway may come back with its own key");
    assert!(!gateway.admin.edge(EDGE).await.bound);

    // Several pins mean: one of these. So keys can be changed without a moment in which nothing fits.
    let token =
        forged(&edge.join_token, |token| token.tls_pins.insert(0, TlsFingerprint::from_bytes([1; 32])));
    let _agent = AgentOptions::with_token(&token).start();
    gateway.admin.wait_bound(EDGE).await;
}

#[tokio::test]
async fn agent_without_pins_refuses_a_certificate_that_nobody_vouches_for() {
    let gateway = Gateway::start().await;
    let edge = gateway.admin.create(EDGE).await;
    let token = forged(&edge.join_token, |token| token.tls_pins.clear());
    let agent = AgentOptions::with_token(&token).start();
    agent.log().wait_for("certificate", SOON).await;
    assert!(!gateway.admin.edge(EDGE).await.bound);
}

async fn openssl(folder: &Path, line: &str) {
    let mut command = tool::command("openssl", "openssl");
    command.args(line.split_whitespace()).current_dir(folder);
    run(command).await.ok();
}

#[tokio::test]
async fn operators_own_certificate_is_verified_by_its_authority() {
    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let authority = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=House";
    openssl(folder.path(), &format!("{authority} -keyout ca.key -out ca.pem")).await;
    let server =
        "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=gate -CA ca.pem -CAkey ca.key";
    let names = "-addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
    openssl(folder.path(), &format!("req -x509 {server} {names} -keyout gate.key -out gate.pem")).await;
    let file = |name: &str| folder.path().join(name).to_str().expect("a plain path").to_owned();
    let own = ["--tls-cert", &file("gate.pem"), "--tls-key", &file("gate.key")];
    let gateway = GatewayOptions::default().args(&own).start().await;
    let edge = gateway.admin.create(EDGE).await;
    let token: JoinToken = edge.join_token.parse().expect("a good token");
    assert_eq!(token.tls_pins, [], "its key may change with every renewal");

    let stranger = AgentOptions::joining(&edge).start();
    stranger.log().wait_for("certificate", SOON).await;
    assert!(!gateway.admin.edge(EDGE).await.bound);
    let _agent = AgentOptions::joining(&edge).args(&["--ca-file", &file("ca.pem")]).start();
    gateway.admin.wait_bound(EDGE).await;

    let mut list = gateway.cli(&["edge", "list"]);
    list.env_remove("TIDEGATE_TLS_FINGERPRINT");
    assert_eq!(run(list).await.code, 4, "nobody here vouches for it");
    let mut list = gateway.cli(&["edge", "list", "--ca-file", &file("ca.pem")]);
    list.env_remove("TIDEGATE_TLS_FINGERPRINT");
    assert!(run(list).await.ok().stdout.contains(EDGE));
}

#[tokio::test]
async fn fingerprint_is_the_one_that_curl_pins_and_old_clients_get_tls_1_2() {
    let gateway = Gateway::start().await;
    let curl = |pin: String, version: &str| {
        let mut command = tool::command("curl", "curl");
        command.args(["--silent", "--show-error", "--insecure", "--noproxy", "*", "--tls-max", version]);
        command.args(["--pinnedpubkey", &pin, &format!("https://{}/healthz", gateway.api())]);
        run(command)
    };
    for version in ["1.2", "1.3"] {
        assert!(curl(gateway.pin().to_string(), version).await.ok().stdout.contains("ok"));
    }
    let wrong = curl(TlsFingerprint::from_bytes([1; 32]).to_string(), "1.3").await;
    assert_eq!(wrong.code, 90, "curl must find the wrong pin wrong: {wrong:?}");
    let ancient = curl(gateway.pin().to_string(), "1.1").await;
    assert_ne!(ancient.code, 0, "TLS 1.1 is broken: {ancient:?}");
}
