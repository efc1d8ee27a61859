//! What happens to packets on their way in one direction. Pure: `now` is an argument.
//!
//! A packet is lost or not; then it waits until those before it have left, leaves at the rate, and arrives after the delay.
//! So packets keep their order, as they do on nearly all real paths.

use std::str::FromStr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Longest wait in front of a narrow link; who comes when it is longer is dropped, as a router's full buffer does. Twice
/// the round trip of a far path, as home routers have it.
const PATIENCE: Duration = Duration::from_millis(200);
/// What a share of packets is counted in.
const MILLION: u32 = 1_000_000;

/// The weather in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Time on the way: half of a round trip, if the other direction is like this one.
    pub delay: Duration,
    /// Packets that vanish.
    pub loss: Loss,
    /// Bytes a second that the link takes, with IP headers; `None` for as many as come.
    pub rate: Option<u64>,
}

impl Weather {
    /// Half of a path with this round trip.
    pub fn far(round_trip: Duration, loss: Loss) -> Self {
        Self { delay: round_trip / 2, loss, rate: None }
    }
}

/// The share of packets that vanish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss {
    per_million: u32,
}

impl Loss {
    /// None.
    pub const NONE: Self = Self { per_million: 0 };
    /// All: a cable that was cut, and nobody is told.
    pub const ALL: Self = Self { per_million: MILLION };

    /// So many of 100.
    ///
    /// # Panics
    /// If it is more than 100.
    pub const fn percent(percent: u32) -> Self {
        assert!(percent <= 100, "more than all packets can't be lost");
        Self { per_million: percent * (MILLION / 100) }
    }

    /// As a share of 1.
    pub fn share(self) -> f64 {
        f64::from(self.per_million) / f64::from(MILLION)
    }
}

impl FromStr for Loss {
    type Err = String;

    /// Reads `1%` or `0.25%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
        let share = number.filter(|percent| (0.0..=100.0).contains(percent)).map(|percent| percent / 100.0);
        let share = share.ok_or("give a share of packets such as 1% or 0.25%, up to 100%")?;
        // In range, as the line above checks.
        Ok(Self { per_million: (share * f64::from(MILLION)).round() as u32 })
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives then.
    Arrives(Instant),
    /// It vanishes.
    Lost,
    /// Too many wait in front of it, and it is dropped.
    Crowded,
}

/// The packets of one direction, in their order.
#[derive(Debug)]
pub struct Direction {
    dice: StdRng,
    /// When the last one has left, where the link has a rate.
    free_at: Option<Instant>,
}

impl Direction {
    /// One without packets. Two directions of a link have a seed each, so that they lose different ones.
    pub fn new(seed: u64) -> Self {
        Self { dice: StdRng::seed_from_u64(seed), free_at: None }
    }

    /// What becomes of the next packet, which comes `now` and has so many bytes.
    pub fn packet(&mut self, now: Instant, length: usize, weather: &Weather) -> Fate {
        // Thrown for every packet, so that a change of the weather does not change which later ones are lost.
        let thrown = self.dice.random_range(0..MILLION);
        if thrown < weather.loss.per_million {
            return Fate::Lost;
        }
        let Some(rate) = weather.rate else { return Fate::Arrives(now + weather.delay) };
        let start = self.free_at.map_or(now, |free_at| free_at.max(now));
        if start - now > PATIENCE {
            return Fate::Crowded;
        }
        let left = start + Duration::from_secs_f64(length as f64 / rate.max(1) as f64);
        self.free_at = Some(left);
        Fate::Arrives(left + weather.delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(seed: u64, count: usize, weather: &Weather) -> Vec<Fate> {
        let now = Instant::now();
        let mut direction = Direction::new(seed);
        (0..count).map(|_| direction.packet(now, 1500, weather)).collect()
    }

    fn lost(fates: &[Fate]) -> Vec<usize> {
        fates.iter().enumerate().filter(|(_, fate)| **fate == Fate::Lost).map(|(number, _)| number).collect()
    }

    #[test]
    fn a_packet_arrives_after_the_delay() {
        let now = Instant::now();
        let weather = Weather::far(Duration::from_millis(100), Loss::NONE);
        let fate = Direction::new(1).packet(now, 1500, &weather);
        assert_eq!(fate, Fate::Arrives(now + Duration::from_millis(50)));
    }

    #[test]
    fn as_many_are_lost_as_asked_and_the_same_ones_with_the_same_seed() {
        let weather = Weather { loss: Loss::percent(1), ..Weather::default() };
        let first = lost(&fates(1, 20_000, &weather));
        assert!((150..250).contains(&first.len()), "{} of 20,000", first.len());
        assert_eq!(lost(&fates(1, 20_000, &weather)), first);
        assert_ne!(lost(&fates(2, 20_000, &weather)), first);
        for (loss, expected) in [(Loss::NONE, 0), (Loss::ALL, 100)] {
            assert_eq!(lost(&fates(1, 100, &Weather { loss, ..Weather::default() })).len(), expected);
        }
    }

    #[test]
    fn a_narrow_link_lets_packets_leave_one_after_the_other_and_drops_whom_it_can_not_hold() {
        let now = Instant::now();
        let weather = Weather { rate: Some(150_000), ..Weather::default() };
        let mut direction = Direction::new(1);
        let mut next = |at| direction.packet(at, 1500, &weather);
        // 10 ms each: what is in front of the 22nd takes longer than the buffer is.
        for number in 1..=21 {
            assert_eq!(next(now), Fate::Arrives(now + Duration::from_millis(10 * number)), "{number}");
        }
        assert_eq!(next(now), Fate::Crowded);
        let later = now + Duration::from_secs(1);
        assert_eq!(next(later), Fate::Arrives(later + Duration::from_millis(10)));
    }

    #[test]
    fn a_loss_is_read_as_a_share_of_100() {
        assert_eq!("1%".parse(), Ok(Loss::percent(1)));
        assert_eq!("100%".parse(), Ok(Loss::ALL));
        assert_eq!("0.25%".parse::<Loss>().map(Loss::share), Ok(0.0025));
        for bad in ["", "1", "%", "-1%", "101%", "NaN%"] {
            assert!(bad.parse::<Loss>().is_err(), "{bad}");
        }
    }
}
