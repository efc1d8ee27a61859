//! What instances are told without the registry being asked, and what it knows of that afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::domain::event::What;
use crate::domain::standing::Standing;

/// The interval that edges have when nobody says otherwise.
const INTERVAL: Duration = Duration::from_secs(5);

impl Bench {
    /// How an agent stands, after a check-in that is answered at once.
    fn stands(&mut self, agent: &Agent) -> Arc<Standing> {
        self.check_in(agent, CheckIn::default()).expect("accepted");
        Arc::clone(&self.stands.last().expect("it was just told").standing)
    }

    /// How often it was told that the edge is online or offline.
    fn told_online(&self) -> (usize, usize) {
        let count = |which: fn(&What) -> bool| self.events.iter().filter(|event| which(&event.what)).count();
        (
            count(|what| matches!(what, What::Online { .. })),
            count(|what| matches!(what, What::Offline { .. })),
        )
    }

    fn is_offline(&self) -> bool {
        self.told_online().1 > 0
    }
}

#[test]
fn agent_that_is_answered_without_the_registry_stays_online_and_is_noted() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let standing = bench.stands(&agent);
    bench.registry.take_seen();
    for _ in 0..120 {
        bench.pass(INTERVAL);
        assert!(standing.pass(bench.now.instant));
    }
    assert!(!bench.is_offline());
    let edge = bench.registry.edge(&name("shop")).expect("there");
    assert_eq!(edge.last_seen(bench.now), Some(bench.now.wall));
    let noted = bench.registry.take_seen();
    let age = bench.now.wall.since(noted.first().expect("it was looked at").1);
    assert!(noted.len() == 1 && age <= Duration::from_secs(66), "{age:?}");
    bench.registry.note_all_seen(bench.now);
    assert_eq!(bench.registry.take_seen().first().expect("news").1, bench.now.wall);
    bench.pass(INTERVAL * 3 + Duration::from_secs(2));
    assert!(bench.is_offline());
    assert!(!standing.pass(bench.now.instant), "the registry must hear of it first");
    bench.check_in(&agent, CheckIn::default()).expect("accepted");
    assert_eq!(bench.told_online(), (2, 1));
    assert!(standing.pass(bench.now.instant));
}

#[test]
fn held_agent_is_online_until_its_hold_is_over_and_nobody_comes() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let standing = bench.stands(&agent);
    let held = standing.hold(bench.now.instant + Duration::from_secs(50)).expect("nothing is new");
    bench.pass(Duration::from_secs(49));
    assert!(!bench.is_offline());
    bench.pass(Duration::from_secs(1));
    held.release(bench.now.instant);
    bench.pass(Duration::from_secs(14));
    assert!(!bench.is_offline());
    bench.pass(Duration::from_secs(3));
    assert!(bench.is_offline(), "it did not ask again");
}

#[test]
fn hold_that_breaks_off_leaves_three_intervals() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let standing = bench.stands(&agent);
    let held = standing.hold(bench.now.instant + Duration::from_secs(50)).expect("nothing is new");
    bench.pass(Duration::from_secs(2));
    held.release(bench.now.instant);
    for _ in 0..17 {
        bench.pass(Duration::from_secs(1));
    }
    assert!(bench.is_offline());
}

#[test]
fn settings_close_what_they_change_and_say_how_long_to_hold() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let standing = bench.stands(&agent);
    bench.change(Request::Settings { change: admin::Settings { hold_s: Some(50), ..Default::default() } });
    assert!(standing.pass(bench.now.instant), "not stored yet");
    bench.commit(Ok(()));
    assert!(!standing.pass(bench.now.instant));
    bench.stands(&agent);
    assert_eq!(bench.stands.last().expect("told").hold, Duration::from_secs(50));
    assert!(standing.pass(bench.now.instant));
    bench.handle(Event::Drain);
    assert!(!standing.pass(bench.now.instant));
    bench.stands(&agent);
    assert_eq!(bench.stands.last().expect("told").hold, Duration::ZERO, "a gateway that leaves holds nobody");
}

#[test]
fn wish_wakes_all_of_a_cluster_and_the_first_has_the_offer() {
    let mut bench = Bench::new();
    let one = bench.joined("swarm");
    bench.change(Request::Update {
        edge: name("swarm"),
        change: admin::ChangeEdge { cluster: Some(true), ..Default::default() },
    });
    bench.commit(Ok(()));
    let two = Agent { instance: InstanceId::random(), ..one.clone() };
    bench.check_in(&two, two.hello()).expect("accepted");
    let (first, second) = (bench.stands(&one), bench.stands(&two));
    bench.want("swarm", "web");
    assert!(!first.pass(bench.now.instant) && !second.pass(bench.now.instant));
    assert!(matches!(bench.check_in(&two, CheckIn::default()), Ok(Decision::Needed { .. })));
    assert!(matches!(bench.check_in(&one, CheckIn::default()), Ok(Decision::Unchanged)));
    assert!(first.pass(bench.now.instant) && !second.pass(bench.now.instant));
    bench.pass(tunnel::OFFER_LIFETIME);
    assert!(!first.pass(bench.now.instant), "now it is the other's turn");
    assert!(matches!(bench.check_in(&one, CheckIn::default()), Ok(Decision::Needed { .. })));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(usize),
    Hello(usize),
    Want,
    GiveUp,
    Lower,
    LogIn,
    LinkUp,
    LinkDown,
    Interval(u32),
    Cluster(bool),
    Dissociate,
    Rotate,
    Commit(bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..3usize).prop_map(Step::Ask),
        2 => (0..3usize).prop_map(Step::Hello),
        3 => Just(Step::Want),
        1 => Just(Step::GiveUp),
        1 => Just(Step::Lower),
        3 => Just(Step::LogIn),
        2 => Just(Step::LinkUp),
        2 => Just(Step::LinkDown),
        1 => (1..20u32).prop_map(Step::Interval),
        1 => any::<bool>().prop_map(Step::Cluster),
        1 => Just(Step::Dissociate),
        1 => Just(Step::Rotate),
        4 => any::<bool>().prop_map(Step::Commit),
        6 => (0..20u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Three instances of one edge, two of them with one edge ID. Whenever one would be told "nothing new" without the
    /// registry, the registry is asked as well, and says the same.
    #[test]
    fn nobody_is_told_what_the_registry_would_not_say(steps in prop::collection::vec(step(), 1..120)) {
        let mut bench = Bench::new();
        let one = bench.joined("shop");
        let two = Agent { instance: InstanceId::random(), ..one.clone() };
        let stranger = Agent { edge_id: EdgeId::random(), ..two.clone() };
        let agents = [one, two, stranger];
        let mut standings: [Option<Arc<Standing>>; 3] = [None, None, None];
        let (mut waiters, mut offer, mut link) = (Vec::new(), None, None);
        for step in steps {
            match step {
                Step::Ask(who) | Step::Hello(who) => {
                    let passed = matches!(step, Step::Ask(_))
                        && standings[who].as_ref().is_some_and(|standing| standing.pass(bench.now.instant));
                    let body = if passed { CheckIn::default() } else { agents[who].hello() };
                    let token = bench.send(&agents[who], body);
                    let answer = bench.answer(token);
                    // While a change is being stored, the registry says nothing yet.
                    let agrees = matches!(answer, None | Some(Ok(Decision::Unchanged)));
                    prop_assert!(!passed || agrees, "{answer:?}");
                    if let Some(Ok(decision)) = answer {
                        let standing = &bench.stands.last().expect("told").standing;
                        standings[who] = Some(Arc::clone(standing));
                        if let Decision::Needed { offer: made, .. } = decision { offer = Some(made); }
                    }
                }
                Step::Want => waiters.push(bench.want("shop", "web")),
                Step::GiveUp => if let Some(waiter) = waiters.pop() { bench.handle(Event::GiveUp { waiter }); },
                Step::Lower => {
                    let (mut out, now) = (Vec::new(), bench.now);
                    let _ = bench.registry.lower(&name("shop"), now, &mut out);
                }
                Step::LogIn => if let Some(offer) = offer.take() {
                    bench.others.clear();
                    link = bench.log_in(&offer).map(|admitted| admitted.link).or(link);
                },
                Step::LinkUp => if let Some(link) = link {
                    bench.handle(Event::LinkUp { link, services: labels(&["web"]) });
                },
                Step::LinkDown => if let Some(link) = link.take() {
                    bench.handle(Event::LinkDown { link, reason: "lost".into() });
                },
                Step::Interval(seconds) => {
                    let change = admin::Settings { interval_s: Some(seconds), ..Default::default() };
                    bench.change(Request::Settings { change });
                }
                Step::Cluster(cluster) => {
                    let change = admin::ChangeEdge { cluster: Some(cluster), ..Default::default() };
                    bench.change(Request::Update { edge: name("shop"), change });
                }
                Step::Dissociate => { bench.change(Request::Dissociate { edge: name("shop") }); }
                Step::Rotate => {
                    let key = EdgeKey::from_bytes([99; 32]).digest();
                    bench.change(Request::Rotate { edge: name("shop"), key });
                }
                Step::Commit(stored) => if !bench.commits.is_empty() {
                    bench.commit(if stored { Ok(()) } else { Err(StoreError::Full) });
                },
                Step::Wait(seconds) => bench.pass(Duration::from_secs(seconds)),
            }
        }
    }
}

/// While one thread asks without a pause, another raises the flag and lowers it: once the registry has taken a wish, nobody
/// is told that there is nothing new.
#[test]
fn nobody_hears_of_nothing_new_after_a_wish_was_taken() {
    let mut bench = Bench::new();
    let agent = bench.joined("shop");
    let standing = bench.stands(&agent);
    // Odd while there is something new.
    let (turn, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let asking = thread::spawn({
        let (standing, turn, over) = (Arc::clone(&standing), Arc::clone(&turn), Arc::clone(&over));
        let now = bench.now.instant;
        move || {
            let mut passed = 0_u64;
            while !over.load(Ordering::SeqCst) {
                let before = turn.load(Ordering::SeqCst);
                let passes = standing.pass(now);
                let is_new = before % 2 == 1 && turn.load(Ordering::SeqCst) == before;
                assert!(!(passes && is_new), "told that nothing is new after the wish of turn {before}");
                passed += u64::from(passes);
            }
            passed
        }
    });
    for _ in 0..3_000 {
        let waiter = bench.want("shop", "web");
        turn.fetch_add(1, Ordering::SeqCst);
        thread::yield_now();
        bench.handle(Event::GiveUp { waiter });
        turn.fetch_add(1, Ordering::SeqCst);
        assert!(matches!(bench.check_in(&agent, CheckIn::default()), Ok(Decision::Unchanged)));
        thread::yield_now();
    }
    while !standing.pass(bench.now.instant) {}
    over.store(true, Ordering::SeqCst);
    asking.join().expect("no panic");
}
