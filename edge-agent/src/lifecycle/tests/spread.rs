//! Fifteen thousand agents lose their gateway in the same moment. How they come back is simulated here, each with the
//! lifecycle that the real agent runs, and counted by the second.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::super::*;

const AGENTS: usize = 15_000;
/// Of these, so many have a tunnel in use when it happens: an operator works on each.
const IN_USE_AGENTS: usize = 300;
/// A gateway that is not there refuses connections at once: the case in which agents ask most often.
const REFUSED_AFTER: Duration = Duration::from_millis(5);
/// How long the gateway counts after its return.
const WATCHED: Duration = Duration::from_secs(120);

struct Outage {
    from: Instant,
    until: Instant,
}

/// What came of an outage.
struct Return {
    /// Check-ins that the gateway got in each second after its return.
    arrivals: Vec<usize>,
    /// When the last agent, and the last whose tunnel was in use, had its answer, counted from the return.
    last: Duration,
    last_in_use: Duration,
    /// Most questions in any second of the outage, after its first.
    knocks: usize,
}

fn agent(in_use: bool, now: Instant, interval: Duration, rng: &mut StdRng) -> Lifecycle {
    let mut lifecycle = Lifecycle::new(super::AGAIN, now, Roll(rng.random_range(0.0..1.0)));
    lifecycle.interval = interval;
    let phase = if in_use { 1.0 } else { rng.random_range(0.0..1.0) };
    lifecycle.check_ins = CheckIns::Due(now + Roll(phase).of(interval));
    if in_use {
        let (attempt, offer) = (Attempt(1), OfferId::from_bytes([0; 16]));
        let live = Live { attempt, offer, since: now, streams: 1, active: now, idle_timeout: EAGER_TIME };
        lifecycle.tunnel = Tunnel::Open(live);
    }
    lifecycle
}

fn simulate(interval: Duration, away: Duration) -> Return {
    let mut rng = StdRng::seed_from_u64(15_000);
    let start = Instant::now();
    let outage = Outage { from: start + interval, until: start + interval + away };
    let mut agents: Vec<_> =
        (0..AGENTS).map(|number| agent(number < IN_USE_AGENTS, start, interval, &mut rng)).collect();
    let mut due: BinaryHeap<_> = agents
        .iter()
        .enumerate()
        .map(|(number, agent)| Reverse((agent.deadline().expect("a check-in is due"), number)))
        .collect();
    let mut lost = vec![false; AGENTS];
    let mut back = vec![None; AGENTS];
    let mut arrivals = vec![0; WATCHED.as_secs() as usize];
    let mut knocks = vec![0; away.as_secs() as usize + 1];
    while let Some(Reverse((at, number))) = due.pop()
        && at < outage.until + WATCHED
    {
        let lifecycle = &mut agents[number];
        let mut out = Vec::new();
        let mut roll = || Roll(rng.random_range(0.0..1.0));
        if at >= outage.from && !std::mem::replace(&mut lost[number], true) && number < IN_USE_AGENTS {
            let ended = TunnelEvent::Ended { reason: "reset".into() };
            lifecycle.handle(Event::Tunnel(Attempt(1), ended), outage.from, roll(), &mut out);
        }
        lifecycle.handle(Event::Tick, at, roll(), &mut out);
        if out.iter().any(|command| matches!(command, Command::CheckIn { .. })) {
            let there = at < outage.from || at >= outage.until;
            let outcome = if there {
                Outcome::Answered { interval: None, offer: None, rerouted: false }
            } else {
                Outcome::Trouble { reason: "refused".into(), retry_after: None }
            };
            lifecycle.handle(Event::CheckedIn(outcome), at + REFUSED_AFTER, roll(), &mut out);
            if at >= outage.until {
                back[number].get_or_insert(at - outage.until);
                arrivals[(at - outage.until).as_secs() as usize] += 1;
            } else if at >= outage.from {
                knocks[(at - outage.from).as_secs() as usize] += 1;
            }
        }
        due.push(Reverse((lifecycle.deadline().expect("a check-in is due").max(at), number)));
    }
    let back: Vec<Duration> = back.into_iter().flatten().collect();
    assert_eq!(back.len(), AGENTS, "all are back");
    let last = |agents: &[Duration]| agents.iter().copied().max().expect("there are some");
    Return {
        arrivals,
        last: last(&back),
        last_in_use: last(&back[..IN_USE_AGENTS]),
        knocks: knocks.into_iter().skip(1).max().unwrap_or_default(),
    }
}

#[test]
fn fifteen_thousand_agents_come_back_spread_out_within_a_minute() {
    for (interval, away) in [(5, 2), (5, 30), (5, 600), (60, 30), (60, 590), (600, 600)] {
        let interval = Duration::from_secs(interval);
        let result = simulate(interval, Duration::from_secs(away));
        let busiest = result.arrivals.iter().copied().max().expect("two minutes were watched");
        let usual = (AGENTS as f64 / interval.as_secs_f64()) as usize;
        println!(
            "interval {interval:?}, away {away} s: busiest second {busiest} check-ins ({:.1} % of the agents; usual \
             {usual}), all back after {:?}, those in use after {:?}, knocks in a second of the outage: {}",
            busiest as f64 / AGENTS as f64 * 100.0,
            result.last,
            result.last_in_use,
            result.knocks
        );
        // Twice the usual load, or, where that is small, a twentieth of all agents.
        let bound = (usual * 2).max(AGENTS / 20);
        assert!(busiest <= bound, "{busiest} came in one second, and {usual} do so always");
        assert!(result.last <= Duration::from_secs(60));
        // Nobody stays eager for ever.
        let bound = if Duration::from_secs(away) < EAGER_TIME { 1500 } else { 60_000 };
        assert!(result.last_in_use <= Duration::from_millis(bound), "{:?}", result.last_in_use);
    }
}
