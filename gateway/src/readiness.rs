//! Which parts of the gateway can do their work: what `/readyz` answers.
//!
//! The rule: a listener is ready exactly as long as its task holds its [`Up`]; a task that ends or panics can't leave
//! a stale "ok" behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shared::wire::admin::{HealthStatus, Part};

use crate::audit::Audit;
use crate::store::Store;

/// State of the gateway's parts. Cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    audit: Audit,
    http: AtomicBool,
    ssh: AtomicBool,
    draining: AtomicBool,
}

/// A listener of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Port 9000.
    Http,
    /// Port 8000.
    Ssh,
}

/// Held by a listener's task while it accepts.
pub struct Up {
    inner: Arc<Inner>,
    listener: Listener,
}

impl Readiness {
    /// Nothing listens yet.
    pub fn new(store: Arc<dyn Store>, audit: Audit) -> Self {
        let [http, ssh, draining] = [false; 3].map(AtomicBool::new);
        Self { inner: Arc::new(Inner { store, audit, http, ssh, draining }) }
    }

    /// The listener accepts from now on, until the answer is dropped.
    pub fn up(&self, listener: Listener) -> Up {
        self.inner.flag(listener).store(true, Ordering::Relaxed);
        Up { inner: Arc::clone(&self.inner), listener }
    }

    /// The gateway shuts down: never ready again.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the last attempt to write to the store succeeded.
    pub fn is_store_well(&self) -> bool {
        self.inner.store.health().is_ok()
    }

    /// Every part by its name.
    pub fn parts(&self) -> BTreeMap<String, Part> {
        let listens = |listener| match self.inner.flag(listener).load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("it does not listen".to_owned()),
        };
        let lifecycle = match self.inner.draining.load(Ordering::Relaxed) {
            true => Err("it is shutting down".to_owned()),
            false => Ok(()),
        };
        let parts = [
            ("audit", self.inner.audit.health().map_err(|error| error.to_string())),
            ("gateway", lifecycle),
            ("http", listens(Listener::Http)),
            ("ssh", listens(Listener::Ssh)),
            ("store", self.inner.store.health()),
        ];
        parts.into_iter().map(|(name, state)| (name.to_owned(), part(state))).collect()
    }
}

fn part(state: Result<(), String>) -> Part {
    match state {
        Ok(()) => Part { status: HealthStatus::Ok, reason: None },
        Err(reason) => Part { status: HealthStatus::Unavailable, reason: Some(reason) },
    }
}

impl Inner {
    fn flag(&self, listener: Listener) -> &AtomicBool {
        match listener {
            Listener::Http => &self.http,
            Listener::Ssh => &self.ssh,
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.inner.flag(self.listener).store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SledStore;

    fn not_ready(readiness: &Readiness) -> Vec<String> {
        let parts = readiness.parts().into_iter();
        parts.filter(|(_, part)| part.status == HealthStatus::Unavailable).map(|(name, _)| name).collect()
    }

    #[test]
    fn a_part_is_ready_exactly_while_it_works() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SledStore::open(folder.path(), 1 << 20).expect("an empty folder");
        let audit = Audit::open(folder.path(), 1 << 20).expect("an empty folder");
        let readiness = Readiness::new(Arc::new(store), audit);
        assert_eq!(not_ready(&readiness), ["http", "ssh"]);
        let http = readiness.up(Listener::Http);
        let _ssh = readiness.up(Listener::Ssh);
        assert_eq!(not_ready(&readiness), [""; 0]);
        drop(http);
        assert_eq!(not_ready(&readiness), ["http"]);
        readiness.drain();
        assert_eq!(not_ready(&readiness), ["gateway", "http"]);
    }
}
