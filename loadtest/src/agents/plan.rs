//! Who does what, and when: seeded, so that the same command does the same. Pure: times are distances from the begin of
//! a run, and nothing here reads a clock.
//!
//! The rule: what is due is due whatever the gateway does. Nothing in a schedule depends on an answer.

use std::net::Ipv4Addr;
use std::time::Duration;

use fixtures::seeded::Seeded;
use serde::{Deserialize, Serialize};

/// Agents that share one source address of 127.0.0.0/8. A connection needs a port of its source address, there are
/// about 28,000, and one that was closed is blocked for a minute.
const AGENTS_PER_ADDRESS: u32 = 250;
/// The agents' first source address is 127.1.0.0; everything below it is left to others, 127.0.0.1 above all.
const FIRST_SOURCE: u32 = u32::from_be_bytes([127, 1, 0, 0]);

/// The schedule of all agents. Cheap to clone.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    seeded: Seeded,
    agents: u32,
    interval: Duration,
}

/// How an agent leaves without a goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vanishing {
    /// Its connection is reset: the process was killed, or a middlebox forgot the connection.
    Reset,
    /// Nothing is heard of it any more: the power failed, or a cable was pulled.
    Silence,
}

impl Plan {
    /// The schedule of `agents` agents, at least one, that ask once in `interval`, which is above 0.
    pub fn new(seed: u64, agents: u32, interval: Duration) -> Self {
        Self { seeded: Seeded::new(seed), agents, interval }
    }

    /// Time between two check-ins of an agent.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// When in each interval an agent asks: anywhere in it, as likely as anywhere else.
    pub fn offset(&self, agent: u32) -> Duration {
        self.interval.mul_f64(self.share("offset", agent.into()))
    }

    /// The first time after `after` at which an agent is due.
    pub fn due_after(&self, agent: u32, after: Duration) -> Duration {
        let offset = self.offset(agent);
        let Some(past) = after.checked_sub(offset) else { return offset };
        let whole = past.as_nanos() / self.interval.as_nanos() + 1;
        offset + self.interval * u32::try_from(whole).unwrap_or(u32::MAX)
    }

    /// Check-ins of all agents that are due from `begin` on and before `end`.
    pub fn scheduled(&self, begin: Duration, end: Duration) -> u64 {
        let before = |agent, time: Duration| match time.checked_sub(self.offset(agent)) {
            // Those at 0, 1, 2... intervals after the offset and before `time`.
            Some(past) => past.as_nanos().div_ceil(self.interval.as_nanos()),
            None => 0,
        };
        let all = (0..self.agents).map(|agent| before(agent, end).saturating_sub(before(agent, begin)));
        u64::try_from(all.sum::<u128>()).unwrap_or(u64::MAX)
    }

    /// The address that an agent's connections come from, where the gateway is on this machine.
    pub fn source(&self, agent: u32) -> Ipv4Addr {
        // The last byte is 1 to 250, so that no address looks like one of a network or a broadcast.
        let number = agent / AGENTS_PER_ADDRESS;
        Ipv4Addr::from(FIRST_SOURCE + number / 250 * 256 + number % 250 + 1)
    }

    /// How many addresses [`Plan::source`] spreads all agents over.
    pub fn sources(&self) -> u32 {
        self.agents.div_ceil(AGENTS_PER_ADDRESS)
    }

    /// All agents in an order that `what` and the seed decide.
    pub fn shuffled(&self, what: &str) -> Vec<u32> {
        let mut all: Vec<u32> = (0..self.agents).collect();
        all.sort_by_cached_key(|agent| self.seeded.bytes(what, (*agent).into()));
        all
    }

    /// Flags to raise within `duration`, `per_second` of them: when, and whose. Nobody's is raised again before
    /// everybody's was.
    pub fn wakes(&self, per_second: f64, duration: Duration) -> Vec<(Duration, u32)> {
        let order = self.shuffled("wake");
        (0..)
            .map(|number| at(number, per_second))
            .take_while(|time| *time < duration)
            .zip(order.into_iter().cycle())
            .collect()
    }

    /// The same for agents that vanish, each in its own way.
    pub fn vanishings(&self, per_second: f64, duration: Duration) -> Vec<(Duration, u32, Vanishing)> {
        let order = self.shuffled("vanish");
        let ways = [Vanishing::Reset, Vanishing::Silence].into_iter().cycle();
        (0..)
            .map(|number| at(number, per_second))
            .take_while(|time| *time < duration)
            .zip(order.into_iter().cycle())
            .zip(ways)
            .map(|((time, agent), way)| (time, agent, way))
            .collect()
    }

    /// A part of an interval, for whatever an agent does for the `number`th time out of turn.
    pub fn jitter(&self, agent: u32, number: u32) -> Duration {
        self.interval.mul_f64(self.share("jitter", u64::from(agent) << 32 | u64::from(number)))
    }

    /// A number from 0 to below 1.
    fn share(&self, what: &str, number: u64) -> f64 {
        let bytes = self.seeded.bytes(what, number);
        let (head, _) = bytes.split_first_chunk().expect("32 bytes begin with 4");
        f64::from(u32::from_be_bytes(*head)) / (f64::from(u32::MAX) + 1.0)
    }
}

fn at(number: u32, per_second: f64) -> Duration {
    Duration::from_secs_f64(f64::from(number) / per_second)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn plan(agents: u32) -> Plan {
        Plan::new(7, agents, INTERVAL)
    }

    #[test]
    fn the_same_seed_plans_the_same_and_another_one_something_else() {
        let other = Plan::new(8, 1000, INTERVAL);
        assert_eq!(plan(1000).shuffled("wake"), plan(1000).shuffled("wake"));
        assert_ne!(plan(1000).shuffled("wake"), other.shuffled("wake"));
        assert_ne!(plan(1000).shuffled("wake"), plan(1000).shuffled("vanish"));
        assert_ne!(plan(1000).offset(3), other.offset(3));
    }

    #[test]
    fn agents_are_spread_evenly_over_the_interval() {
        let mut each_second = [0; 5];
        for agent in 0..15_000 {
            let second = usize::try_from(plan(15_000).offset(agent).as_secs()).expect("below 5");
            each_second[second] += 1;
        }
        // 3,000 are expected in each; five standard deviations are 245.
        assert!(each_second.iter().all(|count: &i32| (2755..=3245).contains(count)), "{each_second:?}");
    }

    #[test]
    fn each_time_that_is_due_follows_the_last_by_an_interval() {
        for agent in 0..100 {
            let plan = plan(100);
            let first = plan.due_after(agent, Duration::from_secs(100));
            assert!(first > Duration::from_secs(100) && first <= Duration::from_secs(105), "{first:?}");
            assert_eq!(plan.due_after(agent, first), first + INTERVAL);
            assert_eq!(plan.due_after(agent, first - Duration::from_nanos(1)), first);
        }
    }

    #[test]
    fn the_number_of_check_ins_is_that_of_walking_through_the_schedule() {
        let plan = plan(50);
        for (begin, end) in [(0, 0), (0, 5), (3, 4), (2, 33), (1000, 1012)].map(|(a, b)| (secs(a), secs(b))) {
            let walked: usize = (0..50)
                .map(|agent| {
                    let before = begin.checked_sub(Duration::from_nanos(1));
                    let first = before.map_or(plan.offset(agent), |before| plan.due_after(agent, before));
                    std::iter::successors(Some(first), |due| Some(*due + INTERVAL))
                        .take_while(|due| *due < end)
                        .count()
                })
                .sum();
            assert_eq!(plan.scheduled(begin, end), walked as u64, "{begin:?} to {end:?}");
        }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn wakes_come_at_their_rate_and_nobodys_flag_is_raised_twice_before_everybodys_was() {
        let wakes = plan(100).wakes(50.0, secs(4));
        assert_eq!(wakes.len(), 200);
        assert_eq!(wakes[0].0, Duration::ZERO);
        assert!(wakes.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for turn in wakes.chunks(100) {
            let agents: HashSet<u32> = turn.iter().map(|(_, agent)| *agent).collect();
            assert_eq!(agents.len(), 100);
        }
    }

    #[test]
    fn agents_vanish_in_both_ways() {
        let vanishings = plan(10).vanishings(2.0, secs(5));
        assert_eq!(vanishings.len(), 10);
        assert_eq!(vanishings.iter().filter(|(_, _, way)| *way == Vanishing::Reset).count(), 5);
    }

    #[test]
    fn no_source_address_has_more_agents_than_planned_and_all_are_loopback() {
        let plan = plan(100_000);
        let sources: Vec<Ipv4Addr> = (0..100_000).map(|agent| plan.source(agent)).collect();
        assert!(sources.iter().all(|address| address.is_loopback() && *address != Ipv4Addr::LOCALHOST));
        let distinct: HashSet<_> = sources.iter().collect();
        assert_eq!(distinct.len(), usize::try_from(plan.sources()).expect("400"));
        for address in distinct {
            assert_eq!(sources.iter().filter(|other| *other == address).count(), 250);
            assert!(!matches!(address.octets()[3], 0 | 255));
        }
    }
}
