//! How long to wait after trouble.

use std::time::Duration;

use super::Roll;

/// First wait. A gateway that restarts is back within seconds.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait after network errors: an outage of hours must not cost the operator more than a minute at its end.
const LONGEST: Duration = Duration::from_secs(60);
/// Wait after a refusal that only people can lift.
pub const REFUSED_RETRY: Duration = Duration::from_secs(300);
/// A gateway may not silence an agent for longer than a refusal would.
pub const MAX_RETRY_AFTER: Duration = REFUSED_RETRY;

/// Wait after the `count`th trouble in a row, from 1: doubled each time from [`FIRST`] to [`LONGEST`], and then some
/// moment of its second half, so that agents that lost their gateway together don't come back together.
pub fn back_off(count: u32, roll: Roll) -> Duration {
    // 2^6 s is above the longest wait already.
    let whole = (FIRST * 2u32.pow(count.saturating_sub(1).min(6))).min(LONGEST);
    whole / 2 + roll.of(whole / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_never_exceed_it() {
        let longest = Roll(1.0);
        let waits: Vec<u64> = (1..10).map(|count| back_off(count, longest).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(back_off(u32::MAX, longest), LONGEST);
        assert_eq!(back_off(3, Roll(0.0)), Duration::from_secs(2));
    }
}
