//! Whether a connection has logged in, and as whom: shared between the handler that decides and the connection's task
//! that watches the grace.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::access::Operator;
use crate::tunnels::Admitted;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) enum Who {
    /// An agent, with an offer's credentials.
    Agent(Admitted),
    /// An operator, with a key or a token of their own.
    Operator(Operator),
}

/// See the module's text. A connection logs in once at most.
#[derive(Clone, Default)]
pub(super) struct Login {
    who: Arc<OnceLock<Who>>,
    happened: CancellationToken,
    tried: Arc<AtomicBool>,
    refused: Arc<AtomicBool>,
}

impl Login {
    pub(super) fn who(&self) -> Option<&Who> {
        self.who.get()
    }

    pub(super) async fn happened(&self) {
        self.happened.cancelled().await;
    }

    /// Waits until the grace is over without a login; for ever, if there is one.
    pub(super) async fn missed(&self, grace: Instant) {
        if tokio::time::timeout_at(grace, self.happened()).await.is_ok() {
            std::future::pending().await
        }
    }

    /// A key was offered that nobody here knows.
    pub(super) fn try_in_vain(&self) {
        self.tried.store(true, Relaxed);
        self.refuse();
    }

    /// Something was shown that lets nobody in.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Relaxed);
    }

    /// Whether something was.
    pub(super) fn was_refused(&self) -> bool {
        self.refused.load(Relaxed)
    }

    /// Whether one was.
    pub(super) fn was_tried(&self) -> bool {
        self.tried.load(Relaxed)
    }

    pub(super) fn set(&self, who: Who) {
        let _ = self.who.set(who);
        self.happened.cancel();
    }
}
