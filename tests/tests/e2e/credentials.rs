//! An offer's credentials open one tunnel, once, and only that.

use std::time::Duration;

use shared::envelope::Credentials;
use shared::wire::admin::{EdgeCreated, TunnelState};
use tests::gateway::Gateway;
use tests::liar::{Liar, Ssh};
use tests::wait::SOON;

/// A gateway and a liar that is bound to its edge `shop`, with the flag up.
async fn wanted() -> (Gateway, EdgeCreated, Liar) {
    let gateway = Gateway::start().await;
    let edge = gateway.admin.create("shop").await;
    let liar = Liar::new(&gateway.admin.http, &edge);
    liar.check_in(&Liar::hello(&["web"])).await.expect(200);
    gateway.admin.raise("shop").await;
    (gateway, edge, liar)
}

#[tokio::test]
async fn credentials_work_once() {
    let (gateway, edge, liar) = wanted().await;
    let offer = liar.offer(&["web"]).await;
    let tunnel = liar.login(&offer).await.expect("a fresh offer logs in");
    let token: shared::join_token::JoinToken = edge.join_token.parse().expect("a good token");
    assert_eq!(token.host_keys, [tunnel.host_key]);
    tunnel.handle.tcpip_forward("web", 80).await.expect("an announced service");
    gateway.admin.wait_tunnel("shop", TunnelState::Open).await;

    assert!(liar.login(&offer).await.is_none(), "a second use while the tunnel is open");
    gateway.admin.wait_tunnel("shop", TunnelState::Open).await;
    drop(tunnel);
    assert!(liar.login(&offer).await.is_none(), "a second use after the tunnel closed");
}

#[tokio::test]
async fn credentials_are_dead_once_the_tunnel_was_closed_or_the_flag_lowered() {
    let (gateway, _edge, liar) = wanted().await;
    let offer = liar.offer(&["web"]).await;
    gateway.admin.lower("shop").await;
    assert!(liar.login(&offer).await.is_none(), "the flag was lowered before the first use");

    gateway.admin.raise("shop").await;
    let offer = liar.offer(&["web"]).await;
    let tunnel = liar.login(&offer).await.expect("a fresh offer logs in");
    tunnel.handle.tcpip_forward("web", 80).await.expect("an announced service");
    gateway.admin.wait_tunnel("shop", TunnelState::Open).await;
    gateway.admin.lower("shop").await;
    tunnel.closed().await;
    assert!(liar.login(&offer).await.is_none(), "the gateway closed the tunnel");
}

#[tokio::test]
async fn credentials_are_dead_once_the_edge_was_dissociated_or_deleted() {
    let (gateway, _edge, liar) = wanted().await;
    let offer = liar.offer(&["web"]).await;
    gateway.admin.dissociate("shop").await;
    assert!(liar.login(&offer).await.is_none(), "the edge was dissociated");

    liar.check_in(&Liar::hello(&["web"])).await;
    gateway.admin.raise("shop").await;
    let offer = liar.offer(&["web"]).await;
    gateway.admin.delete("shop").await;
    assert!(liar.login(&offer).await.is_none(), "the edge was deleted");
}

#[tokio::test]
async fn credentials_that_were_not_used_in_time_are_dead_and_the_next_offer_works() {
    let (gateway, _edge, liar) = wanted().await;
    let offer = liar.offer(&["web"]).await;
    let life = Duration::from_secs(offer.expires_in_s.into());
    assert!(life <= Duration::from_secs(60), "an offer is short-lived: {life:?}");
    gateway.admin.wait_tunnel_within("shop", TunnelState::Wanted, life + SOON).await;
    assert!(liar.login(&offer).await.is_none(), "the offer expired");
    let next = liar.offer(&["web"]).await;
    assert_ne!(next.id, offer.id);
    assert!(liar.login(&next).await.is_some());
}

#[tokio::test]
async fn wrong_credentials_open_nothing_and_leave_the_offer_good() {
    let (gateway, _edge, liar) = wanted().await;
    let offer = liar.offer(&["web"]).await;
    let right = liar.open(&offer);
    let wrong = Credentials { username: right.username.clone(), password: "guess".into() };
    assert!(Ssh::login(gateway.ssh(), &wrong).await.is_none());
    let nobody = Credentials { username: "root".into(), password: right.password.clone() };
    assert!(Ssh::login(gateway.ssh(), &nobody).await.is_none());
    assert!(liar.login(&offer).await.is_some(), "a guess must not burn another's credentials");
}

#[tokio::test]
async fn tunnel_gets_the_announced_forwards_and_nothing_else() {
    let (_gateway, _edge, liar) = wanted().await;
    let offer = liar.offer(&["web"]).await;
    let tunnel = liar.login(&offer).await.expect("a fresh offer logs in");
    for name in ["other", "", "0.0.0.0", "localhost", "*"] {
        assert!(
            tunnel.handle.tcpip_forward(name, 80).await.is_err(),
            "a forward of {name:?} was not announced"
        );
    }
    tunnel.handle.tcpip_forward("web", 80).await.expect("an announced service");
    assert!(tunnel.handle.channel_open_session().await.is_err(), "a session");
    let direct = tunnel.handle.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await;
    assert!(direct.is_err(), "a way into the gateway's own network");
    let socket = tunnel.handle.channel_open_direct_streamlocal("/var/run/docker.sock").await;
    assert!(socket.is_err(), "a way to the gateway's own sockets");
}
