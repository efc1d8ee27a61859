//! Random early drop, as OpenSSH's `MaxStartups begin:rate:full`: who floods a door can't tell when it is full, and
//! somebody honest who knocks meanwhile has a chance. Pure.

/// How many may be before their login at a time, and from when on newcomers are dropped at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// Below this number nobody is dropped.
    pub begin: usize,
    /// Percent that are dropped from there on, rising to all of them at `full`.
    pub rate: usize,
    /// From this number on everybody is dropped.
    pub full: usize,
}

impl Crowd {
    /// Whether a newcomer is dropped where `present` are there already. `roll` is random, below 100.
    pub fn drops(self, present: usize, roll: u8) -> bool {
        if present < self.begin {
            return false;
        }
        if present >= self.full {
            return true;
        }
        let risen = (100 - self.rate) * (present - self.begin) / (self.full - self.begin);
        usize::from(roll) < self.rate + risen
    }

    /// The same with so many places more.
    pub fn and(self, more: usize) -> Self {
        Self { begin: self.begin + more, full: self.full + more, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CROWD: Crowd = Crowd { begin: 10, rate: 30, full: 100 };

    fn dropped(present: usize) -> usize {
        (0..100).filter(|roll| CROWD.drops(present, *roll)).count()
    }

    #[test]
    fn drops_begin_at_the_rate_and_rise_to_all() {
        for (present, percent) in [(0, 0), (9, 0), (10, 30), (55, 65), (99, 99), (100, 100), (5000, 100)] {
            assert_eq!(dropped(present), percent, "{present}");
        }
        let mut before = 0;
        for present in 0..=100 {
            let now = dropped(present);
            assert!(now >= before, "{present}");
            before = now;
        }
    }

    #[test]
    fn a_crowd_without_a_slope_is_a_plain_cap() {
        let cap = Crowd { begin: 5, rate: 100, full: 5 };
        assert!(!cap.drops(4, 0) && cap.drops(5, 99) && !cap.and(1).drops(5, 0));
    }
}
