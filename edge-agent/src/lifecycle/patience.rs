//! For how long the agent asks its questions to be held. PURE.
//!
//! A gateway may keep a question until it has something to say (`prefer: wait=N`), so that it reaches its agents at once.
//! Not every gateway does, and proxies, load balancers and NATs on the way cut off what says nothing for long. So trust
//! grows and shrinks:
//!
//! | what is known | asks to be held for |
//! | --- | --- |
//! | nothing, or the gateway does not hold | 5 s: silence is noticed nearly as soon as without |
//! | it does: it said so in its last answer | 50 s |
//! | one was cut off | three quarters of that or more, so that agents that were cut off together part |
//! | two in a row were cut off after about the same time, or any three | three quarters of that time, 5 s at least |
//! | those lasted less than 5 s | not at all, for six hours |
//! | a day later | 50 s once; if that is cut off as well, another day as before |
//!
//! What is held for longer than that clears the suspicion, and so does a day. Whoever was cut off has lost nothing: what
//! the gateway wants to say, it says to the next question.

use std::time::{Duration, Instant};

use super::Roll;

/// What a question asks for that may not be held at all, and the least that is worth it: at the default interval of
/// check-ins, less would be no gain.
const SHORTEST: Duration = Duration::from_secs(5);
/// Below the minute after which nginx, HAProxy and the load balancers of AWS cut off what is silent, and above it
/// nothing is to be gained: the longer half of a minute more would save 5 bytes a second.
const LONGEST: Duration = Duration::from_secs(50);
/// What ends sooner was not held: nobody listened, or a proxy had nobody to ask. A question and its failure take a round
/// trip, and even satellites have one below this.
pub const BRIEF: Duration = Duration::from_secs(1);
/// How long a limit of something on the way is taken for granted: middleboxes are changed by people, on working days.
const TRUSTED_FOR: Duration = Duration::from_secs(24 * 3600);
/// The same where nothing can be held: it may have been a bad hour of the network, and holding is worth much.
const HOPELESS_FOR: Duration = Duration::from_secs(6 * 3600);

/// How questions are held, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// The gateway holds them, for so long at most; else they come at the interval.
    pub held: Option<Duration>,
    /// Something on the way cuts off what waits for longer.
    pub cut: Option<Duration>,
}

/// When the next question comes, after one that was not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// At once, in the hope that it is held.
    AtOnce,
    /// After the interval.
    Interval,
    /// At some moment of the interval: all agents of a gateway may have been answered in the same one.
    SomeMoment,
    /// At some moment of the next seconds: that gateway may be on its way out, and another on its way in.
    Soon,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Patience {
    gateway: Gateway,
    /// Cut off, and nothing since that says that it was chance.
    suspicion: Option<Suspicion>,
    bound: Option<Bound>,
}

/// Whether the gateway holds questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gateway {
    Unknown,
    /// It had something to say, so this one could not be held, or it ceased to. The next one tells.
    InDoubt {
        /// Whether it held the one before.
        held: bool,
    },
    DoesNot,
    Does,
}

#[derive(Clone, Copy, Debug)]
struct Suspicion {
    /// The last time.
    since: Instant,
    /// The shortest time.
    limit: Duration,
    times: u32,
}

/// Something on the way cuts off questions.
#[derive(Clone, Copy, Debug)]
struct Bound {
    /// After so long.
    limit: Duration,
    /// What is asked for instead, if anything can be.
    wait: Option<Duration>,
    /// When it is put to the test.
    until: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { gateway: Gateway::Unknown, suspicion: None, bound: None }
    }

    /// What the next question asks for, in whole seconds.
    pub(super) fn wait(&self, now: Instant, roll: Roll) -> Option<Duration> {
        let most = match self.bound {
            Some(bound) if now < bound.until => bound.wait?,
            Some(_) | None => LONGEST,
        };
        let wait = match self.gateway {
            Gateway::Does => most,
            Gateway::Unknown | Gateway::InDoubt { .. } | Gateway::DoesNot => SHORTEST,
        };
        let wait = match self.suspicion {
            Some(_) => wait * 3 / 4 + roll.of(wait / 4),
            None => wait,
        };
        Some(Duration::from_secs(wait.as_secs()))
    }

    /// Whether the gateway may well hold the next question.
    pub(super) fn is_hopeful(&self) -> bool {
        match self.gateway {
            Gateway::Does | Gateway::InDoubt { held: true } => true,
            Gateway::Unknown | Gateway::InDoubt { held: false } | Gateway::DoesNot => false,
        }
    }

    /// As it is, for people.
    pub(super) fn holding(&self) -> Holding {
        let most = self.bound.map_or(Some(LONGEST), |bound| bound.wait);
        Holding {
            held: most.filter(|_| self.gateway == Gateway::Does),
            cut: self.bound.map(|bound| bound.limit),
        }
    }

    /// A question was answered `after` its beginning by a gateway that holds them. `true` if that shows that what cut off questions is gone.
    pub(super) fn held(&mut self, after: Duration, now: Instant) -> bool {
        self.gateway = Gateway::Does;
        if self.suspicion.is_some_and(|suspicion| after > suspicion.limit) {
            self.suspicion = None;
        }
        let gone = self.bound.is_some_and(|bound| now >= bound.until && after > bound.limit);
        if gone {
            self.bound = None;
        }
        gone
    }

    /// A question was answered without having been held. `news`: the gateway had something to say.
    pub(super) fn not_held(&mut self, asked: Option<Duration>, news: bool) -> Next {
        let (gateway, next) = match (self.gateway, asked) {
            // It did not ask for it, so nothing is known that was not known before.
            (known @ (Gateway::Unknown | Gateway::InDoubt { .. } | Gateway::Does), None) => {
                (known, Next::AtOnce)
            }
            (Gateway::DoesNot, _) => (Gateway::DoesNot, Next::Interval),
            (Gateway::Unknown, Some(_)) if news => (Gateway::InDoubt { held: false }, Next::AtOnce),
            (Gateway::Does, Some(_)) if news => (Gateway::InDoubt { held: true }, Next::AtOnce),
            (Gateway::Does, Some(_)) => (Gateway::InDoubt { held: true }, Next::Soon),
            (Gateway::Unknown | Gateway::InDoubt { held: false }, Some(_)) => {
                (Gateway::DoesNot, Next::Interval)
            }
            (Gateway::InDoubt { held: true }, Some(_)) => (Gateway::DoesNot, Next::SomeMoment),
        };
        self.gateway = gateway;
        next
    }

    /// A question that asked for `asked` was cut off, or is not answered, `after` its beginning. What is known of the way
    /// then, if that is news.
    pub(super) fn cut(&mut self, asked: Duration, after: Duration, now: Instant) -> Option<Holding> {
        let limit = after.min(asked);
        if let Some(bound) = &mut self.bound
            && now >= bound.until
        {
            bound.until = now + bound.wait.map_or(HOPELESS_FOR, |_| TRUSTED_FOR);
            self.suspicion = None;
            return None;
        }
        let suspicion = self.suspicion.filter(|suspicion| now < suspicion.since + TRUSTED_FOR);
        let times = suspicion.map_or(0, |suspicion| suspicion.times) + 1;
        let before = suspicion.map_or(limit, |suspicion| suspicion.limit);
        let (least, most) = (limit.min(before), limit.max(before));
        if times < 2 || (times < 3 && least < most * 3 / 4) {
            self.suspicion = Some(Suspicion { since: now, limit: least, times });
            return None;
        }
        let wait = (least > SHORTEST).then(|| (least * 3 / 4).max(SHORTEST));
        let until = now + wait.map_or(HOPELESS_FOR, |_| TRUSTED_FOR);
        self.bound = Some(Bound { limit: least, wait, until });
        self.suspicion = None;
        Some(self.holding())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: Roll = Roll(0.0);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// Of a gateway that holds for as long as it is asked to, behind something that cuts off after `limit`.
    struct Way {
        patience: Patience,
        limit: Duration,
        now: Instant,
        /// Questions that were cut off.
        cuts: usize,
        /// Time during which no question was held.
        deaf: Duration,
        asked: usize,
    }

    impl Way {
        fn new(limit: u64) -> Self {
            let (patience, now) = (Patience::new(), Instant::now());
            Self { patience, limit: seconds(limit), now, cuts: 0, deaf: Duration::ZERO, asked: 0 }
        }

        /// Asks once; what was asked for comes back.
        fn ask(&mut self) -> Option<Duration> {
            let roll = [0.0, 0.5, 0.99][self.asked % 3];
            self.asked += 1;
            let wait = self.patience.wait(self.now, Roll(roll));
            match wait {
                None => {
                    self.now += seconds(60);
                    self.deaf += seconds(60);
                    self.patience.not_held(None, false);
                }
                Some(asked) if asked < self.limit => {
                    self.now += asked;
                    self.patience.held(asked, self.now);
                }
                Some(asked) => {
                    self.now += self.limit;
                    self.cuts += 1;
                    self.patience.cut(asked, self.limit, self.now);
                }
            }
            wait
        }

        fn ask_for(&mut self, time: Duration) {
            let until = self.now + time;
            while self.now < until {
                self.ask();
            }
        }
    }

    #[test]
    fn first_question_asks_for_little_and_the_next_for_all_once_that_was_held() {
        let mut way = Way::new(1000);
        let asked: Vec<_> = (0..4).map(|_| way.ask().expect("asks").as_secs()).collect();
        assert_eq!(asked, [5, 50, 50, 50]);
        assert_eq!(way.patience.holding(), Holding { held: Some(LONGEST), cut: None });
    }

    #[test]
    fn middleboxes_of_every_kind_are_learned_within_minutes_and_holding_goes_on_below_them() {
        for (limit, held) in [(8, 6), (15, 11), (20, 15), (30, 22), (45, 33)] {
            let mut way = Way::new(limit);
            way.ask_for(seconds(300));
            let cuts = way.cuts;
            assert!(cuts <= 3, "{limit} s: {cuts} cuts");
            way.ask_for(seconds(6 * 3600));
            assert_eq!(way.cuts, cuts, "{limit} s: it keeps to what it learned");
            assert_eq!(way.patience.wait(way.now, FIRST), Some(seconds(held)), "{limit} s");
            assert_eq!(way.patience.holding().cut, Some(seconds(limit)));
        }
    }

    #[test]
    fn way_that_cuts_off_everything_is_left_alone_for_hours() {
        let mut way = Way::new(3);
        way.ask_for(seconds(300));
        assert_eq!(way.patience.wait(way.now, FIRST), None);
        assert_eq!(way.patience.holding(), Holding { held: None, cut: Some(seconds(3)) });
        let cuts = way.cuts;
        way.ask_for(HOPELESS_FOR);
        assert!(way.cuts <= cuts + 1, "it was tried once more");
    }

    #[test]
    fn limit_is_put_to_the_test_once_a_day_and_forgotten_when_it_is_gone() {
        let mut way = Way::new(30);
        way.ask_for(seconds(600));
        let cuts = way.cuts;
        way.ask_for(TRUSTED_FOR);
        assert_eq!(way.cuts, cuts + 1, "once");
        assert_eq!(way.patience.wait(way.now, FIRST), Some(seconds(22)));
        way.limit = seconds(1000);
        way.ask_for(TRUSTED_FOR);
        assert_eq!(way.cuts, cuts + 1);
        assert_eq!(way.patience.holding(), Holding { held: Some(LONGEST), cut: None });
    }

    #[test]
    fn one_cut_is_chance_until_the_next_and_parts_those_who_were_cut_off_together() {
        let (mut patience, now) = (Patience::new(), Instant::now());
        patience.held(SHORTEST, now);
        assert_eq!(patience.cut(LONGEST, seconds(17), now), None);
        assert_eq!(patience.wait(now, FIRST), Some(seconds(37)));
        assert_eq!(patience.wait(now, Roll(1.0)), Some(LONGEST));
        patience.held(seconds(20), now);
        assert_eq!(patience.wait(now, FIRST), Some(LONGEST), "something was held for longer");
        assert_eq!(patience.cut(LONGEST, seconds(17), now), None, "it starts anew");
    }

    #[test]
    fn cuts_at_odd_times_count_when_there_are_three_in_a_row() {
        let (mut patience, now) = (Patience::new(), Instant::now());
        patience.held(SHORTEST, now);
        assert_eq!(patience.cut(LONGEST, seconds(40), now), None);
        assert_eq!(patience.cut(LONGEST, seconds(12), now), None);
        let known = patience.cut(LONGEST, seconds(25), now).expect("the third");
        assert_eq!(known, Holding { held: Some(seconds(9)), cut: Some(seconds(12)) });
    }

    #[test]
    fn silence_counts_as_a_cut_after_the_time_that_was_asked_for() {
        let (mut patience, now) = (Patience::new(), Instant::now());
        patience.held(SHORTEST, now);
        patience.cut(LONGEST, seconds(60), now);
        let known = patience.cut(seconds(40), seconds(50), now).expect("the second");
        assert_eq!(known.held, Some(seconds(30)));
    }

    #[test]
    fn gateway_that_does_not_hold_is_asked_at_the_interval_and_news_are_followed_up_once() {
        let asked = Some(SHORTEST);
        let mut patience = Patience::new();
        assert_eq!(patience.not_held(asked, true), Next::AtOnce, "it had something to say");
        assert_eq!(patience.not_held(asked, true), Next::Interval);
        for news in [false, true, true] {
            assert_eq!(patience.not_held(asked, news), Next::Interval);
        }
        patience.held(SHORTEST, Instant::now());
        assert_eq!(patience.not_held(Some(LONGEST), false), Next::Soon, "it ceased to, for all at once");
        assert!(patience.is_hopeful());
        assert_eq!(patience.not_held(asked, false), Next::SomeMoment);
        assert_eq!(patience.not_held(asked, false), Next::Interval);
    }

    proptest! {
        /// Whatever happens: what is asked for stays within its bounds, and is never what was just found to be cut off.
        #[test]
        fn what_is_asked_for_stays_within_bounds(
            steps in proptest::collection::vec((0u8..4, 0u64..70, 0u64..100_000, 0.0..1.0f64), 1..200)
        ) {
            let (mut patience, mut now) = (Patience::new(), Instant::now());
            for (what, after, pause, roll) in steps {
                let asked = patience.wait(now, Roll(roll));
                prop_assert!(asked.is_none_or(|wait| wait >= SHORTEST * 3 / 4 - seconds(1) && wait <= LONGEST));
                now += seconds(after);
                match (asked, what) {
                    (Some(asked), 0) => {
                        if let Some(known) = patience.cut(asked, seconds(after), now) {
                            let limit = known.cut.expect("it is why");
                            prop_assert!(patience.wait(now, Roll(1.0)).is_none_or(|wait| wait < limit));
                        }
                    }
                    (Some(_), 1) => {
                        patience.held(seconds(after), now);
                    }
                    (asked, news) => {
                        patience.not_held(asked, news == 2);
                    }
                }
                now += seconds(pause);
            }
        }
    }
}
