//! Notices that this machine was asleep, or that its clock was set.
//!
//! Timers count the time that the machine runs, and sleep on with it: a question that may be held for another 40 s when a
//! laptop is closed waits for these 40 s when it is opened a day later, on a connection that is long dead. Clocks on the
//! wall go on meanwhile, or are set when a virtual machine is resumed. What one has and the other has not was slept.

use std::time::{Duration, Instant, SystemTime};

/// Below this it is a clock that is put right, or a machine with too much to do.
const LEAST: Duration = Duration::from_secs(10);

/// The two clocks as they were.
#[derive(Debug)]
pub struct Slumber {
    running: Instant,
    wall: SystemTime,
}

impl Slumber {
    /// As they are now.
    pub fn new(running: Instant, wall: SystemTime) -> Self {
        Self { running, wall }
    }

    /// How long the machine slept since it was looked last, if it did. A clock that is set back looks like none.
    pub fn ended(&mut self, running: Instant, wall: SystemTime) -> Option<Duration> {
        let ran = running.saturating_duration_since(self.running);
        let went = wall.duration_since(self.wall).unwrap_or_default();
        *self = Self { running, wall };
        went.checked_sub(ran).filter(|missing| *missing >= LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_only_the_wall_clock_has_was_slept() {
        let (running, wall) = (Instant::now(), SystemTime::now());
        let seconds = Duration::from_secs;
        let mut slumber = Slumber::new(running, wall);
        assert_eq!(slumber.ended(running + seconds(5), wall + seconds(5)), None);
        assert_eq!(slumber.ended(running + seconds(10), wall + seconds(3610)), Some(seconds(3600)));
        assert_eq!(slumber.ended(running + seconds(15), wall + seconds(3615)), None, "once");
        assert_eq!(slumber.ended(running + seconds(20), wall + seconds(3629)), None, "put right");
        assert_eq!(slumber.ended(running + seconds(25), wall), None, "set back");
        assert_eq!(slumber.ended(running + seconds(3600), wall + seconds(60)), None, "no clock but ours ran");
    }
}
