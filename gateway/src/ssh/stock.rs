//! A stock SSH client's tunnel. The client says nothing of itself, so that it is judged here when its forwards are
//! complete and when it is idle.
//!
//! The rule: what is announced is announced by one task, in order. Until then requests wait, so that none is told that a
//! service is missing which is announced a moment later.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shared::id::ServiceName;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::link::{Link, Parts};
use crate::tunnels::{Admitted, Tunnels};

/// After the last forward that it asked for, a client that may ask for more gets this long. OpenSSH asks for all of them
/// in a row, without waiting for answers; who starts it with fewer than the offer names waits this much longer.
const SETTLE: Duration = Duration::from_secs(1);

/// How much later than the idle time a tunnel may close: this part of it.
const LOOKS: u32 = 8;

/// Forwards so far, with the port that the client gave each.
pub(super) type Forwards = HashMap<ServiceName, u32>;

/// A stock client that asked for its first forward.
pub(super) struct Stock {
    pub(super) admitted: Admitted,
    pub(super) tunnels: Tunnels,
    pub(super) parts: Parts,
    pub(super) forwards: watch::Receiver<Forwards>,
}

impl Stock {
    /// Until its connection is over.
    pub(super) async fn run(mut self) {
        let gone = self.parts.gone.clone();
        let serving = async {
            self.complete().await;
            self.announce().await;
            let (edge, link) = (&self.admitted.edge, self.admitted.link.0);
            tracing::info!(%edge, link, services = self.parts.services.len(), "tunnel open to a stock client");
            let idle = watch_idle(self.tunnels.clone(), self.parts.clone(), self.admitted.idle_timeout);
            tokio::join!(self.announce_more(), idle)
        };
        tokio::select! {
            () = gone.cancelled() => {}
            _ = serving => {}
        }
    }

    /// Waits until the client has asked for all that it may, or seems to be done.
    async fn complete(&mut self) {
        while self.forwards.borrow_and_update().len() < self.admitted.services.len() {
            match timeout(SETTLE, self.forwards.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    async fn announce(&mut self) {
        self.parts.services = self.forwards.borrow_and_update().clone();
        let services = self.parts.services.keys().cloned().collect();
        self.tunnels.link_up(Link::new(self.parts.clone()), services).await;
    }

    /// A forward that comes late counts all the same.
    async fn announce_more(&mut self) {
        while self.forwards.changed().await.is_ok() {
            self.announce().await;
        }
    }
}

/// Asks on the client's behalf to close the tunnel when it is idle.
async fn watch_idle(tunnels: Tunnels, parts: Parts, idle_timeout: Duration) {
    let carried = || (parts.meter.received(), parts.meter.sent());
    let (mut before, mut since) = (carried(), Instant::now());
    loop {
        tokio::time::sleep(idle_timeout / LOOKS).await;
        let now = carried();
        if now != before || parts.meter.streams() > 0 {
            (before, since) = (now, Instant::now());
        } else if since.elapsed() >= idle_timeout {
            tunnels.ask_close(parts.id).await;
            since = Instant::now();
        }
    }
}
