//! What is told to those who watch, and when: the order of an edge's life, who falls silent, who repeats themselves.

use super::*;
use crate::domain::event::{Cause, What};
use crate::domain::view;
use shared::wire::admin::EdgeStatus;

impl Bench {
    /// What was told since the last look.
    fn told(&mut self) -> Vec<What> {
        std::mem::take(&mut self.events).into_iter().map(|event| event.what).collect()
    }

    fn check_in_every(&mut self, agent: &Agent, interval: Duration, times: u32) {
        for _ in 0..times {
            self.pass(interval);
            self.check_in(agent, CheckIn::default()).expect("accepted");
        }
    }
}

const INTERVAL: Duration = Duration::from_secs(5);
const HOUR_MS: u64 = 3_600_000;

#[test]
fn life_of_an_edge_is_told_in_order() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let (instance, hostname) = (agent.instance, Some("till".to_owned()));
    assert_eq!(bench.told(), [What::Created, What::Joined, What::Online { instance, hostname }]);

    let link = bench.open("shop", &agent);
    let instance = Some(instance);
    let opening = [What::TunnelWanted, What::TunnelOffered { instance }, What::TunnelOpened { instance }];
    assert_eq!(bench.told(), opening);

    bench.pass(Duration::from_secs(7));
    bench.handle(Event::StreamEnded { link });
    bench.handle(Event::AskClose { link });
    assert_eq!(bench.told(), [], "it is leaving, and still there");
    bench.handle(Event::LinkDown { link, reason: "the other end closed it".into() });
    let reason = "the other end closed it".to_owned();
    assert_eq!(
        bench.told(),
        [What::TunnelClosed { link: Some(link), cause: Cause::Idle, reason, open_ms: 7000 }]
    );

    let change = admin::ChangeEdge {
        name: Some(name("store")),
        tags: Some(vec!["berlin".into()]),
        ..Default::default()
    };
    bench.change(Request::Update { edge: name("shop"), change });
    bench.commit(Ok(()));
    let changed = bench.events.pop().expect("told");
    assert_eq!((changed.edge.as_str(), changed.tags), ("store", vec!["berlin".to_owned()]));
    assert_eq!(changed.what, What::Changed { name: name("shop"), tags: vec![] });

    bench.change(Request::Dissociate { edge: name("store") });
    bench.commit(Ok(()));
    assert_eq!(bench.told(), [What::Dissociated]);
    bench.pass(INTERVAL * 10);
    assert_eq!(bench.told(), [], "whom it was freed from was not offline");

    bench.change(Request::Delete { edge: name("store") });
    bench.commit(Ok(()));
    let deleted = bench.events.pop().expect("told");
    assert_eq!((deleted.edge.as_str(), deleted.what), ("store", What::Deleted));
    bench.pass(INTERVAL * 10);
    assert_eq!(bench.told(), []);
}

#[test]
fn nothing_is_told_of_a_change_that_was_not_stored() {
    let mut bench = Bench::new();
    let agent = Agent::new(bench.create("shop"));
    bench.told();
    bench.send(&agent, agent.hello());
    bench.commit(full());
    bench.change(Request::Dissociate { edge: name("shop") });
    bench.commit(full());
    bench.change(Request::Delete { edge: name("shop") });
    bench.commit(full());
    assert_eq!(bench.told(), []);
}

#[test]
fn edge_is_offline_a_second_after_three_silent_intervals_and_online_with_the_next_check_in() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    bench.check_in_every(&agent, INTERVAL, 20);
    bench.told();
    let last_seen = Some(bench.now.wall);
    bench.pass(INTERVAL * 3);
    assert_eq!(bench.told(), []);
    let due = bench.registry.deadline().expect("somebody is watched");
    assert!(due > bench.now.instant && due <= bench.now.instant + Duration::from_secs(1));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.told(), [What::Offline { last_seen }]);
    assert_eq!(bench.registry.deadline(), None, "who is offline costs nothing");
    bench.check_in(&agent, CheckIn::default()).expect("accepted");
    assert!(matches!(bench.told()[..], [What::Online { .. }]));
}

#[test]
fn edge_whose_interval_shrinks_is_watched_by_the_new_one() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let interval = |bench: &mut Bench, seconds| {
        let change = admin::ChangeEdge { interval_s: Some(Some(seconds)), ..Default::default() };
        bench.change(Request::Update { edge: name("shop"), change });
        bench.commit(Ok(()));
        bench.check_in(&agent, CheckIn::default()).expect("accepted");
        bench.told();
    };
    interval(&mut bench, 3600);
    bench.pass(Duration::from_secs(3600));
    assert_eq!(bench.told(), [], "it may be silent for three hours");
    interval(&mut bench, 5);
    bench.pass(Duration::from_secs(17));
    assert!(matches!(bench.told()[..], [What::Offline { .. }]));
}

#[test]
fn cluster_is_online_while_one_instance_is() {
    let mut bench = Bench::new();
    let one = bench.joined("shop");
    let change = admin::ChangeEdge { cluster: Some(true), ..Default::default() };
    bench.change(Request::Update { edge: name("shop"), change });
    bench.commit(Ok(()));
    let other = Agent { edge_id: one.edge_id, key: one.key.clone(), instance: InstanceId::random() };
    bench.check_in(&other, other.hello()).expect("a cluster");
    bench.told();
    bench.check_in_every(&other, INTERVAL, 10);
    assert_eq!(bench.told(), [], "the first one fell silent, the other did not");
    bench.pass(INTERVAL * 3 + Duration::from_secs(1));
    assert!(matches!(bench.told()[..], [What::Offline { .. }]));
}

#[test]
fn a_clock_that_is_put_back_hides_no_check_in() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    bench.now.wall = Timestamp(bench.now.wall.0 + 2 * HOUR_MS);
    bench.pass(INTERVAL);
    bench.check_in(&agent, CheckIn::default()).expect("accepted");
    bench.now.wall = Timestamp(bench.now.wall.0 - HOUR_MS);
    for _ in 0..3 {
        bench.pass(INTERVAL);
        bench.check_in(&agent, CheckIn::default()).expect("accepted");
        let edge = bench.registry.edge(&name("shop")).expect("there");
        assert_eq!(edge.last_seen(bench.now), Some(bench.now.wall));
    }
}

#[test]
fn an_agent_that_joined_is_offline_and_not_new_where_the_gateway_was_killed_before_it_noted_when() {
    let mut bench = Bench::new();
    bench.joined("shop");
    let edges = vec![bench.registry.edge(&name("shop")).expect("there").record.clone()];
    bench.registry = Registry::new(Records { edges, ..Default::default() }, bench.now);
    bench.told();
    let edge = bench.registry.edge(&name("shop")).expect("there");
    assert_eq!(view::status(&bench.registry, edge, bench.now), EdgeStatus::Offline);
    bench.pass(INTERVAL * 3 + Duration::from_secs(1));
    assert_eq!(bench.told(), [What::Offline { last_seen: None }]);
}

#[test]
fn agents_have_three_intervals_to_come_back_to_a_gateway_that_was_started_again() {
    let mut bench = Bench::new();
    let [here, gone] = ["here", "gone"].map(|edge| bench.joined(edge));
    let stored = |bench: &Bench, edge| bench.registry.edge(&name(edge)).expect("it is there").record.clone();
    let edges: Vec<_> = ["here", "gone"].into_iter().map(|edge| stored(&bench, edge)).collect();
    let last_seen = edges.iter().map(|edge| (edge.endpoint, bench.now.wall)).collect();
    let before = bench.now.wall;
    bench.pass(Duration::from_secs(60));
    bench.registry = Registry::new(Records { edges, last_seen, ..Default::default() }, bench.now);
    bench.told();
    bench.check_in(&here, here.hello()).expect("accepted");
    assert!(matches!(bench.told()[..], [What::Online { .. }]));
    bench.pass(INTERVAL * 2);
    bench.check_in(&here, CheckIn::default()).expect("accepted");
    bench.pass(INTERVAL + Duration::from_secs(1));
    assert_eq!(bench.told(), [What::Offline { last_seen: Some(before) }]);
    bench.check_in(&gone, gone.hello()).expect("accepted");
    assert!(matches!(bench.told()[..], [What::Online { .. }]));
}

#[test]
fn agent_that_fails_its_offers_for_ever_is_told_a_few_times() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    bench.want("shop", "web");
    bench.told();
    let mut failed = None;
    for _ in 0..1000 {
        let body = CheckIn { hello: None, failed: failed.take() };
        if let Ok(Decision::Needed { offer, .. }) = bench.check_in(&agent, body) {
            failed = Some(FailedOffer { offer: offer.id, reason: "no way".into() });
        }
    }
    assert_eq!(bench.told().len(), 20);
    let second = Agent { edge_id: agent.edge_id, key: agent.key.clone(), instance: InstanceId::random() };
    for _ in 0..1000 {
        bench.check_in(&second, second.hello()).expect_err("one too many");
    }
    let (present, refused) = ("till".to_owned(), Some("till".to_owned()));
    assert_eq!(bench.told(), [What::Duplicate { present, refused }]);
}

#[test]
fn tunnel_that_breaks_while_wanted_is_told_as_closed_and_wanted() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let link = bench.open("shop", &agent);
    let mut out = Vec::new();
    bench.registry.raise(&name("shop"), bench.now, &mut out).expect("it is there");
    bench.told();
    bench.handle(Event::LinkDown { link, reason: "the connection broke".into() });
    let reason = "the connection broke".to_owned();
    let closed = What::TunnelClosed { link: Some(link), cause: Cause::Lost, reason, open_ms: 0 };
    assert_eq!(bench.told(), [closed, What::TunnelWanted]);
    bench.pass(Duration::from_secs(600));
    let told = bench.told();
    assert!(matches!(told.last(), Some(What::TunnelUnwanted { .. } | What::Offline { .. })), "{told:?}");
    assert!(told.iter().any(|what| matches!(what, What::TunnelUnwanted { .. })), "{told:?}");
}

#[test]
fn who_closed_the_tunnel_is_told() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    bench.open("shop", &agent);
    bench.told();
    let mut out = Vec::new();
    bench.registry.lower(&name("shop"), bench.now, &mut out).expect("it is there");
    let closed = out.into_iter().find_map(|command| match command {
        Command::Publish(event) => Some(event.what),
        _ => None,
    });
    assert!(matches!(closed, Some(What::TunnelClosed { cause: Cause::Operator, .. })), "{closed:?}");
    bench.open("shop", &agent);
    bench.told();
    bench.change(Request::Delete { edge: name("shop") });
    assert!(matches!(bench.told()[..], [What::TunnelClosed { cause: Cause::Revoked, .. }]));
}
