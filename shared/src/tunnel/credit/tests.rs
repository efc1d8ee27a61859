//! The controller against paths that are made of numbers.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A sender that always has data, behind a path with a delay each way and a rate, and a local end that takes all at once.
struct Path {
    one_way: Duration,
    /// What the path takes for each message.
    pace: Duration,
    crowded: bool,
    /// From the hundredth message on, every tenth is lost, and comes after so long with all that wait behind it.
    recovery: Duration,
    sent: u32,
    /// When the last one arrives: never before one that was sent earlier.
    last: Instant,
    /// Arrivals of grants at the sender, and of messages here.
    grants: VecDeque<(Instant, u32)>,
    messages: VecDeque<Instant>,
    /// When the path is free again.
    free: Instant,
    credit: u32,
}

impl Path {
    fn new(begun: Instant, round_trip: Duration, pace: Duration) -> Self {
        let (grants, messages) = (VecDeque::new(), VecDeque::new());
        let credit = Terms::ADAPTIVE.initial;
        Self {
            one_way: round_trip / 2,
            pace,
            crowded: false,
            recovery: Duration::ZERO,
            sent: 0,
            last: begun,
            grants,
            messages,
            free: begun,
            credit,
        }
    }

    fn send(&mut self, now: Instant) {
        while self.credit > 0 {
            self.credit -= 1;
            self.free = self.free.max(now) + self.pace;
            self.sent += 1;
            let lost = self.sent > 100 && self.sent.is_multiple_of(10);
            let arrives = self.free + self.one_way + if lost { self.recovery } else { Duration::ZERO };
            self.last = self.last.max(arrives);
            self.messages.push_back(self.last);
        }
    }

    /// Runs for `time`; how many messages arrived, and the window at the end.
    fn run(mut self, begun: Instant, time: Duration) -> (u32, u32) {
        let (mut granting, mut delay) = (Granting::new(Terms::ADAPTIVE), Delay::default());
        let mut arrived = 0;
        self.send(begun);
        loop {
            let message = *self.messages.front().expect("the sender is never left without credit");
            if message > begun + time {
                return (arrived, granting.window);
            }
            if let Some(&(at, count)) = self.grants.front()
                && at <= message
            {
                self.grants.pop_front();
                self.credit += count;
                assert!(self.credit <= Terms::ADAPTIVE.most);
                self.send(at);
                continue;
            }
            self.messages.pop_front();
            arrived += 1;
            if let Some(round_trip) = granting.received(|| message).expect("honest") {
                delay.observe(round_trip);
            }
            granting.written(1);
            if granting.is_due() {
                let window = granting.wanted(delay.shortest(), self.crowded);
                let granted = granting.grant(window, message);
                self.grants.push_back((message + self.one_way, granted));
            }
            if self.messages.is_empty() {
                // All credit is on its way.
                let (at, count) = self.grants.pop_front().expect("the sender is never left without credit");
                self.credit += count;
                self.send(at);
            }
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn window_grows_until_a_long_path_is_full() {
    // 100 ms and 100 MiB/s: 320 messages in flight.
    let begun = Instant::now();
    let pace = Duration::from_micros(312);
    let (arrived, window) = Path::new(begun, Duration::from_millis(100), pace).run(begun, 10 * SECOND);
    let most = (10 * SECOND).as_micros() / pace.as_micros();
    assert!(u128::from(arrived) * 10 >= most * 9, "{arrived} of {most}");
    assert!((320..=MOST).contains(&window), "{window}");
}

#[test]
fn losses_on_a_long_path_leave_it_full() {
    // 100 ms and 10 MiB/s: 32 messages in flight, and 80 while a lost one is awaited for another 150 ms.
    let begun = Instant::now();
    let pace = Duration::from_micros(3125);
    let mut path = Path::new(begun, Duration::from_millis(100), pace);
    path.recovery = Duration::from_millis(150);
    let (arrived, window) = path.run(begun, 20 * SECOND);
    assert!(arrived > 5_760, "{arrived} of 6,400 through {window}");
}

#[test]
fn window_without_delay_stays_as_small_as_its_company_wants_it() {
    let begun = Instant::now();
    // The first window is a queue here, and a part of the shortest round trip that is ever seen.
    for (crowded, expected) in [(false, LONE..=LONE), (true, SHARED..=2 * SHARED)] {
        let mut path = Path::new(begun, Duration::from_micros(100), Duration::from_micros(80));
        path.crowded = crowded;
        let (arrived, window) = path.run(begun, SECOND);
        assert!(expected.contains(&window), "{window}");
        assert!(arrived > 12_000, "{arrived} of 12,500");
    }
}

#[test]
fn company_on_a_long_path_costs_no_speed() {
    // 100 ms and 20 MiB/s: 64 messages in flight, four times what company would leave without a delay.
    let begun = Instant::now();
    let mut path = Path::new(begun, Duration::from_millis(100), Duration::from_micros(1562));
    path.crowded = true;
    let (arrived, window) = path.run(begun, 10 * SECOND);
    assert!(arrived > 5_700, "{arrived} of 6,400");
    assert!((64..=160).contains(&window), "{window}");
}

#[test]
fn terms_of_version_1_never_change() {
    let mut granting = Granting::new(Terms::FIXED);
    let now = Instant::now();
    let mut granted = 0;
    for _ in 0..64 {
        granting.received(|| now).expect("there is credit");
        granting.written(1);
        if granting.is_due() {
            assert_eq!(granting.wanted(Some(SECOND), true), LONE);
            granted += granting.grant(LONE, now);
        }
    }
    assert_eq!(granted, 64);
}

#[test]
fn reader_that_stops_gets_its_window_and_nothing_more() {
    let mut granting = Granting::new(Terms::ADAPTIVE);
    let now = Instant::now();
    for _ in 0..SHARED {
        granting.received(|| now).expect("there is credit");
    }
    assert!(!granting.is_due());
    assert_eq!(granting.received(|| now), Err(Overrun));
}

#[test]
fn company_is_remembered_for_a_second() {
    let mut crowd = Crowd::default();
    let begun = Instant::now();
    assert!(!crowd.look(10, 10, begun), "all that passed was its own");
    assert!(crowd.look(21, 20, begun));
    assert!(crowd.look(31, 30, begun + SECOND / 2), "somebody was here a moment ago");
    assert!(!crowd.look(41, 40, begun + SECOND));
}

#[test]
fn shortest_round_trip_only_falls() {
    let mut delay = Delay::default();
    assert_eq!(delay.shortest(), None);
    for (measured, shortest) in [(30, 30), (10, 10), (50, 10)] {
        delay.observe(Duration::from_millis(measured));
        assert_eq!(delay.shortest(), Some(Duration::from_millis(shortest)));
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Receive,
    Write(u32),
    Wait(u64),
    Company(bool),
    /// What the budget leaves.
    Budget(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Receive),
        4 => (1..40u32).prop_map(Step::Write),
        2 => (0..200_000u64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Company),
        1 => (0..600u32).prop_map(Step::Budget),
    ];
    proptest::collection::vec(step, 1..2000)
}

proptest! {
    /// Whatever happens, the peer's credit and what is queued never exceed what was paid for, and a peer whose messages
    /// were all written out can go on.
    #[test]
    fn no_order_of_events_overdraws_or_starves(steps in steps(), adaptive in any::<bool>()) {
        let terms = if adaptive { Terms::ADAPTIVE } else { Terms::FIXED };
        let (mut granting, mut delay) = (Granting::new(terms), Delay::default());
        let (mut now, mut crowded, mut budget) = (Instant::now(), false, 600);
        // The same as the peer and the pump see it.
        let (mut credit, mut queued, mut paid) = (terms.initial, 0, 0);
        for step in steps {
            match step {
                Step::Receive => {
                    let round_trip = granting.received(|| now);
                    prop_assert_eq!(round_trip.is_err(), credit == 0);
                    let Ok(round_trip) = round_trip else { continue };
                    (credit, queued) = (credit - 1, queued + 1);
                    round_trip.into_iter().for_each(|round_trip| delay.observe(round_trip));
                }
                Step::Write(count) => {
                    let count = count.min(queued);
                    queued -= count;
                    granting.written(count);
                    if granting.is_due() {
                        let wanted = granting.wanted(delay.shortest(), crowded);
                        let beyond = wanted.max(granting.outstanding()).saturating_sub(terms.initial);
                        paid = if beyond > paid { paid.max(beyond.min(budget)) } else { beyond };
                        credit += granting.grant(wanted.min(terms.initial + paid), now);
                    }
                    prop_assert!(queued > 0 || credit > 0, "the peer waits for ever");
                }
                Step::Wait(micros) => now += Duration::from_micros(micros),
                Step::Company(company) => crowded = company,
                Step::Budget(left) => budget = left,
            }
            prop_assert_eq!(granting.outstanding(), credit + queued);
            prop_assert!(credit + queued <= terms.initial + paid);
            prop_assert!(credit + queued <= terms.most);
        }
    }
}
