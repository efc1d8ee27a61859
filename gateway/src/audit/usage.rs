//! A stream while it is open: recorded when it opens, and when it ends with what it carried.

use std::time::Instant;

use shared::tunnel::carry::CarryEnd;

use super::{Audit, Entry};

/// An operator's stream. Dropped before [`StreamUse::close`], it ends without a count.
#[derive(Debug)]
pub struct StreamUse {
    audit: Audit,
    entry: Option<Entry>,
    opened: Instant,
}

impl StreamUse {
    /// Records that it opened: who, from where, to what.
    pub fn open(audit: &Audit, entry: Entry) -> Self {
        audit.note(entry.clone());
        Self { audit: audit.clone(), entry: Some(entry), opened: Instant::now() }
    }

    /// Records that it ended, with bytes towards the service and from it.
    pub fn close(mut self, inward: u64, outward: u64, orderly: bool) {
        self.end(|entry| {
            let entry = entry.bytes(inward, outward);
            if orderly { entry } else { entry.failed("broke-off") }
        });
    }

    /// As [`StreamUse::close`], by what a stream to a service says of itself.
    pub fn carried(self, end: CarryEnd) {
        self.close(end.sent, end.received, end.orderly);
    }

    fn end(&mut self, how: impl FnOnce(Entry) -> Entry) {
        if let Some(entry) = self.entry.take() {
            self.audit.note(how(entry.at_now().action("stream.close").took(self.opened.elapsed())));
        }
    }
}

impl Drop for StreamUse {
    fn drop(&mut self) {
        self.end(|entry| entry.failed("broke-off"));
    }
}
