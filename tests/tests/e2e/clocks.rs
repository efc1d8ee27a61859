//! Clocks that jump by an hour, on the gateway's machine and on the agent's, forwards and then back beyond where they were:
//! what is timed goes on as if nothing had happened, since the gateway times by a clock that does not jump; what ends at a
//! time of day ends by the clock on the wall.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::json;
use shared::wire::admin::{AuditPage, AuditVerdict, EdgeStatus, TokenCreated, TunnelState};
use tests::clock::Clock;
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::gateway::GatewayOptions;
use tests::http::Http;
use tests::site::{EDGE, Site};
use tests::wait::{SOON, until};
use tokio::net::TcpStream;

const HOUR: i64 = 3600;
/// Of the token that is to end within the jump.
const HALF_AN_HOUR: i64 = HOUR / 2;

struct Scene {
    clock: Clock,
    site: Site,
    stream: TcpStream,
}

impl Scene {
    /// What must hold whatever the clock says.
    async fn goes_on(&mut self) {
        let admin = &self.site.gateway.admin;
        for _ in 0..2 {
            self.site.wait_check_in().await;
            let edge = admin.edge(EDGE).await;
            assert_eq!((edge.status, edge.tunnel.state), (EdgeStatus::TunnelOpen, TunnelState::Open));
        }
        assert_echo(&mut self.stream, b"the same stream").await;
        assert!(!self.site.gateway.log().contains("tunnel closed"), "the same tunnel");
        let verdict: AuditVerdict = admin.get("/api/v1/audit/verify").await.expect(200).json();
        assert!(verdict.intact, "{verdict:?}");
    }

    /// The token lets in whom it does.
    async fn lets_in(&self, token: &TokenCreated) -> bool {
        let http = self.site.http().anonymous().with_authorization(format!("Bearer {}", token.token));
        match http.get("/api/v1/settings").await.expect("an answer").status.as_u16() {
            200 => true,
            401 => false,
            status => panic!("{status}"),
        }
    }
}

async fn token(http: &Http, label: &str, expires_in_s: i64) -> TokenCreated {
    let body = json!({ "label": label, "expires_in_s": expires_in_s });
    http.send_json(Method::POST, "/api/v1/tokens", &body).await.expect("an answer").expect(201).json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_what_ends_at_a_time_of_day_notices_a_clock_that_jumps_by_an_hour() {
    let (echo, clock) = (Tcp::echo().await, Clock::right());
    let turned = clock.environment();
    let options =
        turned.iter().fold(GatewayOptions::default(), |options, (name, value)| options.env(name, value));
    let site = Site::at(
        options.start().await,
        &[("echo", &echo.address)],
        |_| (),
        |agent| turned.iter().fold(agent, |agent, (name, value)| agent.env(name, value.clone())),
    )
    .await;
    let listen = site.listen("echo").await;
    let mut stream = listen.connect().await;
    assert_echo(&mut stream, b"before").await;
    let mut scene = Scene { clock, site, stream };
    let before = token(scene.site.http(), "half an hour", HALF_AN_HOUR).await;
    assert!(scene.lets_in(&before).await);

    scene.clock.turn(HOUR);
    scene.goes_on().await;
    assert!(!scene.lets_in(&before).await, "its time is over");
    let ahead = token(scene.site.http(), "made ahead", HALF_AN_HOUR).await;
    assert!(scene.lets_in(&ahead).await);

    scene.clock.turn(-HOUR);
    scene.goes_on().await;
    assert!(scene.lets_in(&before).await && scene.lets_in(&ahead).await, "its time is not over yet");

    // Offers are timed too: the next tunnel opens.
    let Scene { clock: _clock, site, stream } = scene;
    drop((stream, listen));
    site.gateway.admin.lower(EDGE).await;
    site.wait_tunnel(TunnelState::Idle).await;
    let listen = site.listen("echo").await;
    assert_echo(&mut listen.connect().await, b"the next tunnel").await;

    // Records are in the order in which things were done, whatever times they have.
    let created = until(SOON, "both tokens are in the log", async || {
        let page: AuditPage =
            site.gateway.admin.get("/api/v1/audit?action=token.create").await.expect(200).json();
        (page.records.len() == 2).then_some(page.records)
    });
    let created = created.await;
    assert!(created[0].seq > created[1].seq && created[0].at >= created[1].at + HALF_AN_HOUR as u64 * 1000);
    site.gateway.admin.create("behind").await;
    let page: AuditPage = site.gateway.admin.get("/api/v1/audit?action=edge.create").await.expect(200).json();
    let newest = page.records.first().expect("there is one");
    assert!(newest.seq > created[0].seq && newest.at < created[1].at, "{newest:?}");
    let numbers: BTreeSet<_> = page.records.iter().map(|record| record.seq).collect();
    assert_eq!(numbers.len(), page.records.len());
}
