//! Several agents with one edge ID: on an edge that is a cluster they stand in for each other, on any other edge the
//! second is refused and shown.

use std::time::{Duration, Instant};

use serde_json::Value;
use shared::id::EdgeId;
use shared::wire::admin::{EdgeCreated, EdgeStatus};
use shared::wire::check_in::CheckIn;
use tests::admin::INTERVAL_S;
use tests::agent::{Agent, AgentOptions};
use tests::fakes::http::Web;
use tests::gateway::Gateway;
use tests::liar::Liar;
use tests::process::{Log, run};
use tests::site::EDGE;
use tests::wait::{SOON, until};

const KILLS: usize = 20;
const INTERVAL: Duration = Duration::from_secs(INTERVAL_S as u64);
/// Interval of an agent that was told none.
const UNTOLD: Duration = Duration::from_secs(5);
/// For a loaded machine.
const MARGIN: Duration = Duration::from_secs(1);
/// The next instance takes over within an interval and this.
const TAKEOVER: Duration = Duration::from_secs(5);

/// Another agent of the edge with the edge ID that its commands name.
fn agent(edge: &EdgeCreated, web: &Web) -> Agent {
    AgentOptions::joining(edge).args(&["--edge-id", &edge.edge_id]).expose("web", web.url()).start()
}

fn instance(agent: &Agent) -> String {
    let text = std::fs::read_to_string(agent.data().join("instance-id")).expect("it keeps its id there");
    text.trim().to_owned()
}

/// A request through the tunnel: `true` once it has its answer, `false` for an honest no.
async fn ask(gateway: &Gateway) -> bool {
    let answer = gateway.admin.get(&Gateway::proxy_path(EDGE, "web", "/hello")).await;
    match answer.status.as_u16() {
        200 => true,
        502..=504 => false,
        _ => panic!("{answer:?}"),
    }
}

/// Walks through the gateway's log: a tunnel opens only when the one before it is closed.
fn assert_one_tunnel_at_a_time(log: &Log) -> usize {
    let (mut live, mut opened): (Option<Value>, usize) = (None, 0);
    for record in log.records(0) {
        if record["message"] == "tunnel open" {
            assert!(live.is_none(), "{record} opened beside {live:?}");
            live = Some(record["link"].clone());
            opened += 1;
        } else if record["message"] == "tunnel closed" && live.as_ref() == Some(&record["link"]) {
            live = None;
        }
    }
    opened
}

#[tokio::test]
async fn killed_agent_of_a_cluster_is_followed_by_the_next_twenty_times() {
    let (gateway, web) = (Gateway::start().await, Web::start().await);
    let edge = gateway.admin.create_with(EDGE, |edge| edge.cluster = true).await;
    let mut agents: Vec<_> = (0..3).map(|_| agent(&edge, &web)).collect();
    until(SOON, "three instances check in", async || {
        (gateway.admin.edge(EDGE).await.instances.len() == 3).then_some(())
    })
    .await;
    assert!(ask(&gateway).await, "the tunnel opens");
    let mut times = Vec::new();
    for _ in 0..KILLS {
        let active = gateway.admin.tunnel(EDGE).await.instance.expect("the tunnel is open").to_string();
        let killed = agents.iter_mut().find(|agent| instance(agent) == active).expect("one of the three");
        killed.kill();
        let since = Instant::now();
        while !ask(&gateway).await {
            assert!(since.elapsed() < INTERVAL + TAKEOVER, "nobody took over");
        }
        assert!(since.elapsed() < INTERVAL + TAKEOVER, "it took {:?}", since.elapsed());
        times.push(since.elapsed());
        let next = gateway.admin.tunnel(EDGE).await.instance.expect("the tunnel is open").to_string();
        assert_ne!(next, active, "the dead one has no tunnel");
        killed.resume();
    }
    times.sort();
    println!("takeover: median {:?}, max {:?}", times[KILLS / 2], times[KILLS - 1]);
    let opened = assert_one_tunnel_at_a_time(gateway.log());
    assert!(opened > KILLS, "{opened} tunnels were open");
}

#[tokio::test]
async fn second_agent_on_an_edge_that_is_no_cluster_is_refused_and_shown() {
    let (gateway, web) = (Gateway::start().await, Web::start().await);
    let edge = gateway.admin.create(EDGE).await;
    let mut first = agent(&edge, &web);
    let present = gateway.admin.wait_online(EDGE).await.instances[0].hostname.clone();

    let mut second = Liar::new(&gateway.admin.http, &edge);
    second.authorization.edge_id = edge.edge_id.parse::<EdgeId>().expect("a UUID");
    let problem = second.check_in(&Liar::hello(&[])).await.problem(409);
    assert!(problem.detail.contains(&present), "{problem:?}");
    let duplicate = gateway.admin.edge(EDGE).await.duplicate.expect("the operator sees it");
    assert_eq!((duplicate.present.as_str(), duplicate.refused.as_deref()), (&*present, Some("liar")));
    let shown = run(gateway.cli(&["edge", "show", EDGE])).await.ok().stdout;
    assert!(shown.contains(&present) && shown.contains("liar"), "{shown}");

    // The first one checks in all the while, so the second stays out, however often it asks.
    let since = Instant::now();
    until(SOON, "three intervals and one more", async || {
        second.check_in(&CheckIn::default()).await.problem(409);
        (since.elapsed() > INTERVAL * 4).then_some(())
    })
    .await;
    first.kill();
    let since = Instant::now();
    until(SOON, "the second gets in", async || {
        second.check_in(&Liar::hello(&[])).await.status.is_success().then_some(())
    })
    .await;
    assert!(since.elapsed() <= INTERVAL * 3 + MARGIN, "{:?}", since.elapsed());
}

#[tokio::test]
async fn moved_agent_gets_in_within_three_intervals_and_the_next_question() {
    let (gateway, web) = (Gateway::start().await, Web::start().await);
    let edge = gateway.admin.create(EDGE).await;
    let mut here = agent(&edge, &web);
    gateway.admin.wait_online(EDGE).await;
    let there = agent(&edge, &web);
    there.log().wait_for("refuses this agent", SOON).await;
    here.kill();
    let since = Instant::now();
    let moved = instance(&there);
    until(SOON, "the moved agent is in", async || {
        let edge = gateway.admin.edge(EDGE).await;
        let there = edge.instances.iter().any(|instance| instance.instance.to_string() == moved);
        (there && edge.status == EdgeStatus::Online).then_some(())
    })
    .await;
    println!("moved agent is in after {:?}", since.elapsed());
    // An agent that was only ever refused was told no interval, so it asks at the default one, with its jitter.
    assert!(since.elapsed() <= INTERVAL * 3 + UNTOLD * 11 / 10 + MARGIN, "{:?}", since.elapsed());
    assert!(ask(&gateway).await, "and works");
}
