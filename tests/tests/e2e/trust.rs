//! Each side is who its pins say, or nothing happens.

use shared::fingerprint::{HostKeyFingerprint, TlsFingerprint};
use shared::join_token::JoinToken;
use shared::wire::admin::TunnelState;
use tests::agent::AgentOptions;
use tests::fakes::http::Web;
use tests::gateway::Gateway;
use tests::site::EDGE;
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
