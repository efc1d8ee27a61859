//! A DNS that goes away: the agent that is connected needs no name, one that has to connect anew says which name it can't
//! resolve, and comes back with the names. The gateway resolves no name at all while it serves.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use shared::wire::admin::{EdgeStatus, Settings};
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::gateway::Gateway;
use tests::names::Names;
use tests::site::{EDGE, Site};
use tests::wait::{SOON, until};

const NAME: &str = "gate.test";
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_outlives_its_dns_and_is_back_with_it() {
    let (echo, names) = (Tcp::echo().await, Arc::new(Names::none()));
    names.give(NAME, HERE);
    let gateway = Gateway::start().await;
    let settings = Settings {
        public_url: Some(format!("https://{NAME}:{}", gateway.api().port())),
        public_ssh: Some(format!("{NAME}:{}", gateway.ssh().port())),
        ..Settings::default()
    };
    gateway.admin.set(settings).await;
    let finding = names.clone();
    let services: [(&str, &dyn std::fmt::Display); 1] = [("echo", &echo.address)];
    let mut site = Site::at(gateway, &services, |_| (), |agent| agent.finding(&finding)).await;
    let listen = site.listen("echo").await;
    let mut stream = listen.connect().await;
    assert_echo(&mut stream, b"before").await;

    names.take_all();
    for _ in 0..3 {
        site.wait_check_in().await;
        assert_echo(&mut stream, b"meanwhile").await;
    }
    site.gateway.kill_and_resume().await;
    site.agent.log().wait_for(&format!("can't look up {NAME}"), SOON).await;
    until(SOON, "the site counts as offline", async || {
        (site.gateway.admin.edge(EDGE).await.status == EdgeStatus::Offline).then_some(())
    })
    .await;

    names.give(NAME, HERE);
    site.gateway.admin.wait_online(EDGE).await;
    let listen = site.listen("echo").await;
    assert_echo(&mut listen.connect().await, b"after").await;
}
