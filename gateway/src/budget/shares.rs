//! So much for each, so much for all. Where more than half of all is taken, nobody gets more than an equal share: who came
//! first keeps what they have, and those who have less are served before them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is shared. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shares(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    each: usize,
    all: usize,
    /// Held for a look-up.
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<Arc<str>, usize>,
}

/// Of what there is too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// Of what this one may have.
    Each,
    /// Of what all may have.
    All,
}

/// One piece, until it is dropped.
#[derive(Debug)]
pub struct Share {
    shares: Shares,
    who: Arc<str>,
}

impl Shares {
    /// At most `each` for everybody and `all` together.
    pub fn new(each: usize, all: usize) -> Self {
        Self(Arc::new(Inner { each, all, taken: Mutex::default() }))
    }

    /// One piece more for `who`.
    pub fn take(&self, who: &str) -> Result<Share, Short> {
        let Inner { each, all, .. } = *self.0;
        let mut taken = self.taken();
        let (known, mine) = match taken.by.get_key_value(who) {
            Some((known, mine)) => (Arc::clone(known), *mine),
            None => (who.into(), 0),
        };
        let holders = taken.by.len() + usize::from(mine == 0);
        let fair = if taken.all >= all / 2 { (all / holders).max(1) } else { each };
        if taken.all >= all {
            return Err(Short::All);
        }
        if mine >= each.min(fair) {
            return Err(Short::Each);
        }
        taken.all += 1;
        *taken.by.entry(Arc::clone(&known)).or_default() += 1;
        Ok(Share { shares: self.clone(), who: known })
    }

    /// Pieces that are taken.
    pub fn taken_by_all(&self) -> usize {
        self.taken().all
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken();
        taken.all -= 1;
        if let Some(mine) = taken.by.get_mut(&self.who) {
            *mine -= 1;
            if *mine == 0 {
                taken.by.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn as_many_as_possible(shares: &Shares, who: &str) -> Vec<Share> {
        (0..).map_while(|_| shares.take(who).ok()).collect()
    }

    #[test]
    fn one_alone_has_what_each_may_have() {
        let shares = Shares::new(10, 100);
        let mine = as_many_as_possible(&shares, "ada");
        assert_eq!((mine.len(), shares.take("ada").map(drop)), (10, Err(Short::Each)));
        drop(mine);
        assert_eq!(shares.taken_by_all(), 0);
        assert!(shares.taken().by.is_empty(), "nobody is remembered who holds nothing");
    }

    #[test]
    fn where_it_is_scarce_everybody_gets_an_equal_share() {
        let shares = Shares::new(60, 100);
        let first = as_many_as_possible(&shares, "first");
        assert_eq!(first.len(), 60);
        let second = as_many_as_possible(&shares, "second");
        assert_eq!(second.len(), 40, "all that is left");
        drop(first);
        let third = as_many_as_possible(&shares, "third");
        assert_eq!(third.len(), 50, "half of all, as there are two");
        assert_eq!(shares.take("second").map(drop), Ok(()), "who has less is served");
    }

    proptest! {
        #[test]
        fn nobody_ever_has_more_than_each_may_and_all_never_more_than_there_is(
            steps in prop::collection::vec((0_u8..5, any::<bool>()), 1..300)
        ) {
            let shares = Shares::new(8, 20);
            let mut held: Vec<Share> = Vec::new();
            for (who, takes) in steps {
                if takes {
                    held.extend(shares.take(&who.to_string()).ok());
                } else {
                    held.pop();
                }
                prop_assert_eq!(shares.taken_by_all(), held.len());
                prop_assert!(held.len() <= 20);
                prop_assert!(shares.taken().by.values().all(|mine| *mine <= 8));
            }
        }
    }
}
