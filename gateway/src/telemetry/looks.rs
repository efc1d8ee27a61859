//! Looking at something that blocks, for many at once: whoever comes while a look is under way shares it.
//!
//! The rule: at most one thread is at it, however many want to know and however long it takes.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::spawn_blocking;

/// Looks at one thing.
#[derive(Debug)]
pub(super) struct Looks<T> {
    /// Guards the look that was begun last; held to take a handle of it.
    last: Mutex<Option<Look<T>>>,
}

/// A look: nothing until it is done.
type Look<T> = watch::Receiver<Option<T>>;

impl<T> Default for Looks<T> {
    fn default() -> Self {
        Self { last: Mutex::new(None) }
    }
}

impl<T: Clone + Send + Sync + 'static> Looks<T> {
    /// What `see` sees, or somebody else's look that is under way. It goes on after those who gave up. `None` while the
    /// runtime is being torn down.
    pub(super) async fn look(&self, see: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let mut look = self.joined(see);
        let seen = look.wait_for(Option::is_some).await.ok()?;
        seen.clone()
    }

    fn joined(&self, see: impl FnOnce() -> T + Send + 'static) -> Look<T> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(under_way) if under_way.borrow().is_none() && under_way.has_changed().is_ok() => {
                under_way.clone()
            }
            Some(_) | None => {
                let (done, begun) = watch::channel(None);
                // Nobody may be left to see it.
                spawn_blocking(move || done.send_replace(Some(see())));
                last.insert(begun).clone()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn many_share_the_look_that_is_under_way_and_the_next_is_a_new_one() {
        let looks = Looks::default();
        let (answer, hangs) = channel::<u32>();
        let first = looks.joined(move || hangs.recv().unwrap_or_default());
        assert!(first.borrow().is_none(), "it hangs");
        let others: Vec<_> = (0..100).map(|_| looks.joined(|| 9)).collect();
        answer.send(7).expect("somebody is at it");
        for mut look in others {
            assert_eq!(*look.wait_for(Option::is_some).await.expect("it is done"), Some(7));
        }
        assert_eq!(looks.look(|| 9).await, Some(9));
    }
}
