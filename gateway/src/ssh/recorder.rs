//! What a connection on port 8000 tells the audit log.

use std::net::SocketAddr;

use shared::wire::admin::{AuditActor, AuditVia};

use crate::audit::{Audit, Entry};

/// The audit log, as one connection writes to it.
#[derive(Clone)]
pub(super) struct Recorder {
    pub(super) audit: Audit,
    pub(super) peer: SocketAddr,
}

impl Recorder {
    /// What somebody did over this connection.
    pub(super) fn entry(&self, actor: AuditActor, action: &str) -> Entry {
        Entry::new(actor, action).from(self.peer)
    }

    /// What an operator did with a service over this connection.
    pub(super) fn stream(&self, actor: AuditActor) -> Entry {
        self.entry(actor, "stream.open").via(AuditVia::Ssh)
    }

    /// Somebody was refused something.
    pub(super) fn refused(&self, actor: AuditActor, action: &str, code: &str) {
        self.audit.refused(self.entry(actor, action).refused(code));
    }
}
