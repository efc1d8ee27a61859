//! How long to wait after trouble.

use std::time::Duration;

use super::Roll;

/// First wait of [`back_off`]. A gateway that restarts is back within seconds.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait after network errors: an outage of hours must not cost the operator more than a minute at its end.
const LONGEST: Duration = Duration::from_secs(60);
/// Least and longest time from one eager check-in to the next on a network that is silent: the agent is to be back within
/// 2 s of its return, and opening the tunnel takes the rest of them.
const EAGER: (Duration, Duration) = (Duration::from_millis(1000), Duration::from_millis(1500));
/// Longest time from one eager check-in to the next where it is the gateway that is away: every agent whose tunnel was in
/// use is waiting for it then. With this, a third of them comes in the busiest second after its return.
const EAGER_SPREAD: Duration = Duration::from_secs(5);
/// Wait after a refusal that only people can lift.
pub const REFUSED_RETRY: Duration = Duration::from_secs(300);
/// A gateway may not silence an agent for longer than a refusal would.
pub const MAX_RETRY_AFTER: Duration = REFUSED_RETRY;

/// Wait after the `count`th trouble in a row, from 1: doubled each time from [`FIRST`] to [`LONGEST`], and then some
/// moment of its second half, so that agents that lost their gateway together don't come back together.
pub fn back_off(count: u32, roll: Roll) -> Duration {
    doubled(FIRST, count, roll)
}

/// Wait after the `count`th check-in in a row that met trouble, from 1, of an agent that is in no hurry: at first some
/// moment of the interval, which keeps many agents as evenly spread as their check-ins are; then doubled from there.
pub fn wait_out(interval: Duration, count: u32, roll: Roll) -> Duration {
    let first = interval.clamp(FIRST, LONGEST);
    match count {
        0 | 1 => FIRST / 2 + roll.of(first - FIRST / 2),
        again => doubled(first, again, roll),
    }
}

/// Time from the beginning of an eager check-in that met trouble to the next, of an agent that is in a hurry.
pub fn hurried_pace(roll: Roll) -> Duration {
    EAGER.0 + roll.of(EAGER.1 - EAGER.0)
}

/// The same of one that has most likely company.
pub fn spread_pace(interval: Duration, roll: Roll) -> Duration {
    EAGER.0 + roll.of(interval.clamp(EAGER.1, EAGER_SPREAD) - EAGER.0)
}

fn doubled(first: Duration, count: u32, roll: Roll) -> Duration {
    // 2^6 s is above the longest wait already.
    let whole = (first * 2u32.pow(count.saturating_sub(1).min(6))).min(LONGEST);
    whole / 2 + roll.of(whole / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: Roll = Roll(1.0);

    #[test]
    fn waits_double_up_to_a_minute_and_never_exceed_it() {
        let waits: Vec<u64> = (1..10).map(|count| back_off(count, LAST).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(back_off(u32::MAX, LAST), Duration::from_secs(60));
        assert_eq!(back_off(3, Roll(0.0)), Duration::from_secs(2));
    }

    #[test]
    fn unhurried_agent_waits_out_the_interval_first_and_a_minute_at_most() {
        for (interval, expected) in [(1, [1, 2, 4, 8]), (5, [5, 10, 20, 40]), (86_400, [60, 60, 60, 60])] {
            let interval = Duration::from_secs(interval);
            let waits: Vec<u64> = (1..5).map(|count| wait_out(interval, count, LAST).as_secs()).collect();
            assert_eq!(waits, expected, "{interval:?}");
            assert_eq!(wait_out(interval, 1, Roll(0.0)), FIRST / 2);
            assert_eq!(wait_out(interval, u32::MAX, LAST), LONGEST);
        }
    }
}
