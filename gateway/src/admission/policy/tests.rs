use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

const ONE: usize = 0;
const OTHER: usize = 1;
/// Never dropped by chance, and always.
const LUCKY: u8 = 99;
const UNLUCKY: u8 = 0;

const LIMITS: Limits =
    Limits { all: Crowd { begin: 40, rate: 30, full: 80 }, of_source: Crowd { begin: 4, rate: 30, full: 8 } };

/// A policy with a clock, whose bells are numbers.
struct Bench {
    policy: Policy<u64>,
    now: Instant,
    bell: u64,
}

impl Bench {
    fn new() -> Self {
        Self { policy: Policy::new([LIMITS; DOORS]), now: Instant::now(), bell: 0 }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn knock(&mut self, source: u32, roll: u8) -> Result<Entered<u64>, Refusal> {
        self.bell += 1;
        self.policy.enter(ONE, of(source), false, self.bell, (self.now, roll))
    }

    fn acquaint(&mut self, source: u32) -> CallerId {
        let id = self.knock(source, LUCKY).expect("there is room").id;
        assert!(self.policy.welcome(ONE, id, self.now));
        id
    }

    fn fail(&mut self, source: u32, failure: Failure, times: u32) {
        for _ in 0..times {
            self.policy.failed(of(source), failure, self.now);
        }
    }

    fn penalty(&self, source: u32) -> Option<u64> {
        self.policy.penalty(of(source), self.now).map(|left| left.as_secs())
    }

    fn before_login(&self) -> usize {
        self.policy.census(self.now).before_login[ONE]
    }
}

fn of(source: u32) -> Source {
    IpAddr::from(Ipv4Addr::from_bits(source)).into()
}

#[test]
fn one_source_fills_its_own_places_and_no_others() {
    let mut bench = Bench::new();
    let refused = (0..1000).filter(|_| bench.knock(1, LUCKY).is_err()).count();
    assert_eq!((refused, bench.before_login()), (1000 - 8, 8));
    assert_eq!(bench.knock(1, LUCKY), Err(Refusal::SourceCrowded));
    assert!(bench.knock(2, UNLUCKY).is_ok(), "another source");
    assert!(bench.policy.enter(OTHER, of(1), false, 0, (bench.now, UNLUCKY)).is_ok(), "another door");
}

#[test]
fn newcomers_of_a_crowded_source_are_dropped_by_chance_before_it_is_full() {
    let mut bench = Bench::new();
    for _ in 0..4 {
        bench.knock(1, UNLUCKY).expect("below the beginning");
    }
    assert_eq!(bench.knock(1, UNLUCKY), Err(Refusal::SourceCrowded));
    assert!(bench.knock(1, LUCKY).is_ok());
}

#[test]
fn who_waited_longest_without_a_login_gives_its_place_to_a_newcomer() {
    let mut bench = Bench::new();
    for _ in 0..8 {
        bench.knock(1, LUCKY).expect("there is room");
    }
    bench.pass(1);
    assert_eq!(bench.knock(1, LUCKY), Err(Refusal::SourceCrowded), "they still have time");
    bench.pass(1);
    for displaced in 1..=8 {
        assert_eq!(bench.knock(1, LUCKY).expect("a place").displaced, Some(displaced));
    }
    assert_eq!(bench.knock(1, LUCKY), Err(Refusal::SourceCrowded), "these are new");
    assert_eq!(bench.penalty(1), None);
    bench.pass(2);
    for _ in 0..8 {
        bench.knock(1, LUCKY).expect("a place");
    }
    assert!(bench.penalty(1).is_some(), "who makes others wait again and again pays for it");
    assert_eq!(bench.before_login(), 8);
}

#[test]
fn a_flood_of_many_sources_leaves_a_reserve_for_sources_that_are_known() {
    let mut bench = Bench::new();
    bench.acquaint(7);
    let mut flood = 100;
    while bench.knock(flood, LUCKY).is_ok() {
        flood += 1;
    }
    assert_eq!(bench.before_login(), LIMITS.all.full);
    assert_eq!(bench.knock(flood, LUCKY), Err(Refusal::Crowded));
    let came = (0..100).filter(|_| bench.knock(7, UNLUCKY).is_ok()).count();
    assert_eq!(came, LIMITS.all.full / 4);
    bench.pass(2);
    assert_eq!(bench.knock(7, LUCKY).expect("the oldest goes").displaced, Some(2));
}

#[test]
fn an_acquainted_source_has_places_for_a_row_of_agents() {
    let limits = Limits { all: Crowd { begin: 1000, rate: 30, full: 1000 }, ..LIMITS };
    let mut bench = Bench { policy: Policy::new([limits; DOORS]), ..Bench::new() };
    let guest = bench.acquaint(1);
    let came = |bench: &mut Bench| (0..1000).filter(|_| bench.knock(1, LUCKY).is_ok()).count();
    assert_eq!(came(&mut bench), 8 + ACQUAINTED_PLACES + 1);
    assert!(!bench.policy.welcome(ONE, guest, bench.now), "once is enough");
}

#[test]
fn failures_add_up_run_off_and_count_from_a_minimum_on() {
    let mut bench = Bench::new();
    bench.fail(1, Failure::Credential, 2);
    assert_eq!(bench.penalty(1), None, "two mistakes are none");
    bench.fail(1, Failure::Credential, 1);
    assert_eq!((bench.penalty(1), bench.penalty(2)), (Some(15), None));
    bench.pass(10);
    assert_eq!(bench.penalty(1), Some(5), "it counts to its end");
    bench.pass(5);
    assert_eq!(bench.penalty(1), None);
    bench.fail(1, Failure::Nothing, 11);
    assert_eq!(bench.penalty(1), None, "and begins anew");
    bench.fail(1, Failure::Crash, 1);
    assert_eq!(bench.penalty(1), Some(101));
    bench.fail(1, Failure::Grace, 1000);
    assert_eq!(bench.penalty(1), Some(PENALTY_MAX.as_secs()));
}

#[test]
fn a_penalised_stranger_has_a_lane_and_is_there_on_probation() {
    let mut bench = Bench::new();
    assert!(!bench.knock(1, LUCKY).expect("in good standing").probation);
    bench.fail(1, Failure::Grace, 2);
    for _ in 1..LANE {
        assert!(bench.knock(1, UNLUCKY).expect("the lane").probation);
    }
    assert_eq!(bench.knock(1, LUCKY), Err(Refusal::Penalised));
    bench.pass(2);
    for displaced in 1..=4 {
        assert_eq!(bench.knock(1, UNLUCKY).expect("a place").displaced, Some(displaced));
    }
    assert_eq!(bench.knock(1, LUCKY), Err(Refusal::Penalised));
    bench.pass(25);
    assert!(bench.knock(1, LUCKY).is_ok_and(|entered| !entered.probation), "it has run off");
}

#[test]
fn no_penalty_shuts_out_a_source_from_which_agents_come() {
    let mut bench = Bench::new();
    bench.fail(1, Failure::Credential, 100);
    assert!(bench.penalty(1).is_some());
    let guest = bench.acquaint(1);
    assert_eq!(bench.penalty(1), None);
    for _ in 0..100 {
        assert!(!bench.knock(1, LUCKY).expect("a place").probation);
    }
    let _ = guest;
    bench.policy.guest_left(of(1), bench.now);
    bench.pass(ACQUAINTED_FOR.as_secs() - 1);
    bench.fail(1, Failure::Credential, 100);
    assert_eq!(bench.penalty(1), None, "still known");
    bench.pass(1);
    assert!(bench.penalty(1).is_some(), "a stranger again");
}

#[test]
fn an_exempt_source_is_counted_and_not_limited() {
    let mut bench = Bench::new();
    bench.fail(1, Failure::Credential, 100);
    let came = (0..1000).filter(|_| {
        bench.policy.enter(ONE, of(1), true, 0, (bench.now, UNLUCKY)).is_ok_and(|entered| !entered.probation)
    });
    assert_eq!(came.count(), LIMITS.all.full * 5 / 4);
}

#[test]
fn what_is_kept_of_sources_is_bounded_and_those_beyond_still_count_at_the_door() {
    let mut bench = Bench::new();
    for source in 0..2 * MAX_SOURCES {
        bench.fail(u32::try_from(source).expect("it fits"), Failure::Grace, 2);
    }
    assert_eq!(bench.policy.census(bench.now).sources, MAX_SOURCES);
    let beyond = u32::try_from(2 * MAX_SOURCES).expect("it fits");
    let came = (0..1000).filter(|_| bench.knock(beyond, LUCKY).is_ok()).count();
    assert_eq!(came, LIMITS.all.full);
    bench.pass(PENALTY_MAX.as_secs());
    bench.fail(beyond, Failure::Grace, 1);
    assert_eq!(bench.policy.census(bench.now).sources, 1, "what was over made place");
}

#[test]
fn late_and_repeated_ends_change_nothing() {
    let mut bench = Bench::new();
    let gone = bench.knock(1, LUCKY).expect("there is room").id;
    bench.policy.left(ONE, gone, bench.now);
    bench.policy.left(ONE, gone, bench.now);
    assert!(!bench.policy.welcome(ONE, gone, bench.now));
    bench.policy.guest_left(of(1), bench.now);
    assert_eq!(bench.policy.census(bench.now), Census::default());
}

proptest! {
    /// Whatever happens in whatever order: counts stay within their bounds, and nothing is left when all have left.
    #[test]
    fn every_history_stays_within_bounds_and_leaves_nothing_behind(
        steps in prop::collection::vec((0_u8..6, 0_u32..4, 0_u8..100), 1..400)
    ) {
        let mut bench = Bench::new();
        let (mut waiting, mut guests) = (Vec::new(), Vec::new());
        for (step, source, roll) in steps {
            match step {
                0 | 1 => waiting.extend(bench.knock(source, roll).ok().map(|entered| (entered.id, source))),
                2 => if let Some((id, source)) = waiting.pop() {
                    guests.extend(bench.policy.welcome(ONE, id, bench.now).then_some(source));
                },
                3 => if let Some((id, _)) = waiting.pop() {
                    bench.policy.left(ONE, id, bench.now);
                },
                4 => bench.fail(source, Failure::Grace, 1),
                _ => bench.pass(u64::from(roll) / 10),
            }
            let census = bench.policy.census(bench.now);
            prop_assert!(census.before_login[ONE] <= waiting.len());
            prop_assert!(census.before_login[ONE] <= LIMITS.all.full * 5 / 4);
            prop_assert!(census.sources <= 4);
        }
        for (id, _) in waiting {
            bench.policy.left(ONE, id, bench.now);
        }
        for source in guests {
            bench.policy.guest_left(of(source), bench.now);
        }
        bench.pass(ACQUAINTED_FOR.as_secs());
        for source in 0..4 {
            bench.policy.guest_left(of(source), bench.now);
        }
        prop_assert_eq!(bench.policy.census(bench.now), Census::default());
    }
}
