//! Fifteen thousand agents lose their gateway in the same moment. How they come back is simulated here, each with the
//! lifecycle that the real agent runs, and counted by the second.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::super::check_ins::{EAGER_TIME, HURRY_TIME};
use super::super::*;
use super::AGAIN;

const AGENTS: usize = 15_000;
/// Of these, so many usually have a tunnel in use when it happens: an operator works on each.
const FEW: usize = 300;
/// A gateway that is not there, on a machine that is, refuses connections at once: the case in which agents ask most
/// often.
const REFUSED_AFTER: Duration = Duration::from_millis(5);
/// When a dial that hears nothing sends its packet: the kernel repeats it, and an eager agent dials anew each second.
const USUAL_DIAL: &[u64] = &[0, 1, 3, 7];
const EAGER_DIAL: &[u64] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
/// A silent connection is known to be dead after this, and up to so much later.
const KEEPALIVES: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15));
/// Then it gives up.
const SILENT_FOR: Duration = Duration::from_secs(10);
/// How long the gateway counts after its return.
const WATCHED: Duration = Duration::from_secs(120);

/// What agents meet while the gateway is away.
#[derive(Clone, Copy, Debug)]
enum Away {
    /// Its machine refuses connections.
    Refuses,
    /// Nothing answers.
    Silent,
}

#[derive(Clone, Copy, Debug)]
struct Outage {
    interval: Duration,
    away: Away,
    lasts: Duration,
    /// Agents whose tunnel was in use.
    in_use: usize,
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

impl Return {
    fn busiest(&self) -> usize {
        self.arrivals.iter().copied().max().expect("two minutes were watched")
    }
}

fn agent(in_use: bool, now: Instant, interval: Duration, rng: &mut StdRng) -> Lifecycle {
    let mut lifecycle = Lifecycle::new(AGAIN, now, Roll(rng.random_range(0.0..1.0)));
    // Its gateway does not hold questions, and that is known.
    lifecycle.patience.not_held(Some(interval), false);
    lifecycle.interval = interval;
    let at = now + Roll(rng.random_range(0.0..1.0)).of(interval);
    lifecycle.check_ins = CheckIns::Due { at, pace: Pace::Usual };
    if in_use {
        let (attempt, offer) = (Attempt(1), OfferId::from_bytes([0; 16]));
        let live = Live { attempt, offer, since: now, streams: 1, active: now, idle_timeout: EAGER_TIME };
        lifecycle.tunnel = Tunnel::Open(live);
    }
    lifecycle
}

fn simulate(outage: Outage) -> Return {
    let mut rng = StdRng::seed_from_u64(15_000);
    let start = Instant::now();
    let from = start + outage.interval;
    let until = from + outage.lasts;
    let mut agents: Vec<_> =
        (0..AGENTS).map(|number| agent(number < outage.in_use, start, outage.interval, &mut rng)).collect();
    let mut due: BinaryHeap<_> = agents
        .iter()
        .enumerate()
        .map(|(number, agent)| Reverse((agent.deadline().expect("a check-in is due"), number)))
        .collect();
    // When the agents in use know of it: by a reset at once, by their keep-alives after some time.
    let known: Vec<_> = (0..outage.in_use)
        .map(|_| match outage.away {
            Away::Refuses => from,
            Away::Silent => from + KEEPALIVES.0 + Roll(rng.random_range(0.0..1.0)).of(KEEPALIVES.1),
        })
        .collect();
    due.extend(known.iter().enumerate().map(|(number, at)| Reverse((*at, number))));
    let mut lost = vec![false; AGENTS];
    let mut back = vec![None; AGENTS];
    let mut arrivals = vec![0; WATCHED.as_secs() as usize];
    let mut knocks = vec![0; outage.lasts.as_secs() as usize + 1];
    while let Some(Reverse((at, number))) = due.pop()
        && at < until + WATCHED
    {
        let lifecycle = &mut agents[number];
        let mut out = Vec::new();
        let mut roll = || Roll(rng.random_range(0.0..1.0));
        if known.get(number).is_some_and(|known| at >= *known) && !std::mem::replace(&mut lost[number], true)
        {
            let ended = TunnelEvent::Ended { reason: "reset".into() };
            lifecycle.handle(Event::Tunnel(Attempt(1), ended), at, roll(), &mut out);
        }
        lifecycle.handle(Event::Tick, at, roll(), &mut out);
        let mut next = at;
        for command in &out {
            let Command::CheckIn { pace, .. } = command else { continue };
            let packets = match pace {
                Pace::Eager => EAGER_DIAL,
                Pace::Usual | Pace::Following => USUAL_DIAL,
            };
            let heard = match outage.away {
                Away::Refuses => (at < from || at >= until).then_some(at),
                Away::Silent => packets
                    .iter()
                    .map(|second| at + Duration::from_secs(*second))
                    .find(|sent| *sent < from || *sent >= until),
            };
            let reached = match outage.away {
                Away::Refuses => true,
                Away::Silent => false,
            };
            let trouble = Outcome::Trouble { reason: "away".into(), retry_after: None, reached };
            let (outcome, takes) = match (heard, outage.away) {
                (Some(heard), _) => {
                    let answer =
                        Outcome::Answered { interval: None, offer: None, holds: false, rerouted: false };
                    (answer, heard - at + REFUSED_AFTER)
                }
                (None, Away::Refuses) => (trouble, REFUSED_AFTER),
                (None, Away::Silent) => (trouble, SILENT_FOR),
            };
            lifecycle.handle(Event::CheckedIn(outcome), at + takes, roll(), &mut Vec::new());
            next = at + takes;
            match heard {
                Some(heard) if heard >= until => {
                    back[number].get_or_insert(heard - until);
                    if let Some(second) = arrivals.get_mut((heard - until).as_secs() as usize) {
                        *second += 1;
                    }
                }
                Some(_) => {}
                None => knocks[(at - from).as_secs() as usize] += 1,
            }
        }
        due.push(Reverse((lifecycle.deadline().expect("a check-in is due").max(next), number)));
    }
    let back: Vec<Duration> = back.into_iter().flatten().collect();
    assert_eq!(back.len(), AGENTS, "all are back");
    let last = |agents: &[Duration]| agents.iter().copied().max().expect("there are some");
    Return {
        arrivals,
        last: last(&back),
        last_in_use: last(&back[..outage.in_use]),
        knocks: knocks.into_iter().skip(1).max().unwrap_or_default(),
    }
}

fn told(outage: Outage) -> Return {
    let result = simulate(outage);
    println!(
        "{outage:?}: busiest second {} check-ins ({:.1} % of the agents; usual {}), all back after {:?}, those in use \
         after {:?}, knocks in a second of the outage: {}",
        result.busiest(),
        result.busiest() as f64 / AGENTS as f64 * 100.0,
        usual(outage.interval),
        result.last,
        result.last_in_use,
        result.knocks
    );
    result
}

/// Check-ins a second while nothing is wrong.
fn usual(interval: Duration) -> usize {
    (AGENTS as f64 / interval.as_secs_f64()) as usize
}

fn outage(away: Away, interval: u64, lasts: u64, in_use: usize) -> Outage {
    Outage { interval: Duration::from_secs(interval), away, lasts: Duration::from_secs(lasts), in_use }
}

#[test]
fn gateway_that_restarts_gets_its_agents_back_spread_out_and_those_in_use_within_five_seconds() {
    for (interval, lasts) in [(5, 2), (5, 30), (5, 600), (60, 30), (60, 590), (600, 600)] {
        let outage = outage(Away::Refuses, interval, lasts, FEW);
        let result = told(outage);
        // Twice the usual load, or, where that is small, a twentieth of all agents.
        let bound = (usual(outage.interval) * 2).max(AGENTS / 20);
        assert!(result.busiest() <= bound, "{} came in one second", result.busiest());
        assert!(result.last <= Duration::from_secs(60));
        // Nobody stays eager for ever.
        let within = if outage.lasts < EAGER_TIME { 5 } else { 60 };
        assert!(result.last_in_use <= Duration::from_secs(within), "{:?}", result.last_in_use);
    }
}

#[test]
fn network_that_was_silent_gets_its_agents_back_spread_out_and_those_in_use_within_two_seconds() {
    for (interval, lasts) in [(5, 60), (5, 300), (60, 300), (600, 700)] {
        let outage = outage(Away::Silent, interval, lasts, FEW);
        let result = told(outage);
        // Whoever was dialling when it came back is heard within the next seconds.
        let bound = (usual(outage.interval) * 2).max(AGENTS / 8);
        assert!(result.busiest() <= bound, "{} came in one second", result.busiest());
        assert!(result.last <= Duration::from_secs(60) + SILENT_FOR);
        let within = if outage.lasts < HURRY_TIME {
            Duration::from_millis(1500)
        } else if outage.lasts < EAGER_TIME {
            // The longest silence between two packets of a dial, and the pause after it.
            Duration::from_secs(8)
        } else {
            Duration::from_secs(60) + SILENT_FOR
        };
        assert!(result.last_in_use <= within, "{:?}", result.last_in_use);
    }
}

/// The worst that can happen: somebody works on every one of them.
#[test]
fn fifteen_thousand_agents_in_use_are_back_within_seconds_and_not_all_in_the_same() {
    for (away, interval, lasts) in [
        (Away::Refuses, 5, 2),
        (Away::Refuses, 5, 30),
        (Away::Refuses, 60, 300),
        (Away::Silent, 5, 60),
        (Away::Silent, 5, 300),
    ] {
        let outage = outage(away, interval, lasts, AGENTS);
        let result = told(outage);
        assert!(result.last <= Duration::from_secs(8), "{:?}", result.last);
        // The promise to be back within two seconds of a network that was silent for a short while leaves no room: each
        // comes once, and some again for their next usual check-in.
        let hurry = matches!(away, Away::Silent) && outage.lasts < HURRY_TIME;
        let bound = if hurry { AGENTS + AGENTS / 8 } else { AGENTS / 2 };
        assert!(result.busiest() <= bound, "{} came in one second", result.busiest());
    }
}

/// When an agent whose question was cut off, because its gateway went away for so long, is heard by it again.
fn heard_again(interval: Duration, lasts: Duration, rng: &mut StdRng) -> Duration {
    let mut roll = || Roll(rng.random_range(0.0..1.0));
    let (start, mut out) = (Instant::now(), Vec::new());
    let mut lifecycle = agent(false, start, interval, &mut StdRng::seed_from_u64(1));
    let held = Outcome::Answered { interval: None, offer: None, holds: true, rerouted: false };
    let mut now = start;
    for outcome in [held, Outcome::Cut { reason: "reset".into(), after: SILENT_FOR }] {
        now = lifecycle.deadline().expect("a question is due");
        lifecycle.handle(Event::Tick, now, roll(), &mut out);
        now += SILENT_FOR;
        lifecycle.handle(Event::CheckedIn(outcome), now, roll(), &mut out);
    }
    let gone = now;
    loop {
        now = lifecycle.deadline().expect("a question is due");
        if now >= gone + lasts {
            return now - gone - lasts;
        }
        lifecycle.handle(Event::Tick, now, roll(), &mut out);
        let reason = "refused".to_owned();
        let away = Outcome::Trouble { reason, retry_after: None, reached: true };
        lifecycle.handle(Event::CheckedIn(away), now + REFUSED_AFTER, roll(), &mut out);
    }
}

#[test]
fn gateway_that_held_all_and_restarts_hears_them_again_within_seconds_and_not_all_in_the_same() {
    let mut rng = StdRng::seed_from_u64(15_000);
    for (interval, lasts, within) in [(5, 0, 5), (60, 0, 5), (60, 2, 10), (86_400, 2, 10), (60, 30, 40)] {
        let (interval, lasts) = (Duration::from_secs(interval), Duration::from_secs(lasts));
        let mut arrivals = vec![0; 120];
        for _ in 0..AGENTS {
            arrivals[heard_again(interval, lasts, &mut rng).as_secs() as usize] += 1;
        }
        let busiest = arrivals.iter().copied().max().expect("two minutes were watched");
        let last = arrivals.iter().rposition(|count| *count > 0).expect("all came");
        println!(
            "{lasts:?} away at an interval of {interval:?}: busiest second {busiest}, the last after {last} s"
        );
        assert!(busiest <= AGENTS / 3, "{busiest} came in one second");
        assert!(last < within, "the last came after {last} s");
    }
}
