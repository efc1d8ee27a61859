//! Which events the history of an edge keeps: what its page shows of the past. Pure.
//!
//! An entry has the form in which the API shows it, and is kept in it. Who did what is the audit log's business; here a
//! site's own life is told: when it was there, when it was used.

use shared::wire::admin::{EdgeEvent, HistoryEntry, TunnelUse};

use super::event::{Event, What};
use super::view;

/// Entries of one edge. Some weeks of a site that is used a few times a day; the oldest goes when one more comes.
pub const KEPT: u64 = 50;

/// Most names of operators in one entry.
pub const MAX_OPERATORS: usize = 5;

/// Longest text in an entry, in characters: what failed may be told by an agent at length.
const MAX_TEXT: usize = 256;

/// The entry of this event, if it is kept: the steps on the way to a tunnel are not, but that it failed is.
pub fn entry(event: &Event, used: Option<TunnelUse>) -> Option<HistoryEntry> {
    match &event.what {
        What::TunnelWanted
        | What::TunnelOffered { .. }
        | What::TunnelUnwanted { reason: None }
        | What::Deleted => None,
        What::Created
        | What::Changed { .. }
        | What::Joined
        | What::Dissociated
        | What::Online { .. }
        | What::Offline { .. }
        | What::Duplicate { .. }
        | What::TunnelOpened { .. }
        | What::TunnelClosed { .. }
        | What::TunnelUnwanted { reason: Some(_) }
        | What::SnapshotReceived { .. } => {
            let what = shortened(view::what(&event.what));
            Some(HistoryEntry { at: event.at.to_string(), what, used })
        }
    }
}

/// Whether an entry says something new after those before it, of which the newest comes first. Every start of the gateway
/// finds its edges online or offline once more.
pub fn is_news(what: &EdgeEvent, mut before: impl Iterator<Item = EdgeEvent>) -> bool {
    let Some(online) = presence(what) else { return true };
    before.find_map(|what| presence(&what)) != Some(online)
}

/// Whether an agent is there after this, where it says so.
fn presence(what: &EdgeEvent) -> Option<bool> {
    match what {
        EdgeEvent::Online { .. } => Some(true),
        EdgeEvent::Offline { .. } | EdgeEvent::Dissociated | EdgeEvent::Created => Some(false),
        EdgeEvent::Changed { .. }
        | EdgeEvent::Deleted
        | EdgeEvent::Joined
        | EdgeEvent::Duplicate { .. }
        | EdgeEvent::TunnelWanted
        | EdgeEvent::TunnelOffered { .. }
        | EdgeEvent::TunnelOpened { .. }
        | EdgeEvent::TunnelClosed { .. }
        | EdgeEvent::TunnelUnwanted { .. }
        | EdgeEvent::SnapshotReceived { .. }
        | EdgeEvent::Other => None,
    }
}

fn shortened(mut what: EdgeEvent) -> EdgeEvent {
    let text = match &mut what {
        EdgeEvent::TunnelClosed { reason, .. } => Some(reason),
        EdgeEvent::TunnelUnwanted { reason } => reason.as_mut(),
        EdgeEvent::Created
        | EdgeEvent::Changed { .. }
        | EdgeEvent::Deleted
        | EdgeEvent::Joined
        | EdgeEvent::Dissociated
        | EdgeEvent::Online { .. }
        | EdgeEvent::Offline { .. }
        | EdgeEvent::Duplicate { .. }
        | EdgeEvent::TunnelWanted
        | EdgeEvent::TunnelOffered { .. }
        | EdgeEvent::TunnelOpened { .. }
        | EdgeEvent::SnapshotReceived { .. }
        | EdgeEvent::Other => None,
    };
    if let Some(text) = text
        && let Some((end, _)) = text.char_indices().nth(MAX_TEXT)
    {
        text.truncate(end);
    }
    what
}

#[cfg(test)]
mod tests {
    use shared::id::{EndpointId, InstanceId};

    use super::*;
    use crate::domain::edge::Timestamp;

    fn online() -> EdgeEvent {
        EdgeEvent::Online { instance: InstanceId::from_bytes([1; 16]), hostname: None }
    }

    fn offline() -> EdgeEvent {
        EdgeEvent::Offline { last_seen: None }
    }

    #[test]
    fn presence_is_kept_when_it_changes() {
        for (what, before, news) in [
            (online(), vec![], true),
            (online(), vec![EdgeEvent::Joined, EdgeEvent::Created], true),
            (online(), vec![EdgeEvent::TunnelWanted, online(), offline()], false),
            (online(), vec![offline(), online()], true),
            (offline(), vec![EdgeEvent::TunnelWanted, online()], true),
            (offline(), vec![offline(), online()], false),
            (online(), vec![EdgeEvent::Joined, EdgeEvent::Dissociated, online()], true),
            (EdgeEvent::Joined, vec![EdgeEvent::Joined], true),
        ] {
            assert_eq!(is_news(&what, before.clone().into_iter()), news, "{what:?} after {before:?}");
        }
    }

    #[test]
    fn steps_to_a_tunnel_are_not_kept_and_long_reasons_are_cut() {
        let edge = "shop".parse().expect("a label");
        let endpoint = EndpointId::from_bytes([1; 16]);
        let mut event = Event { at: Timestamp(0), edge, endpoint, tags: vec![], what: What::TunnelWanted };
        assert_eq!(entry(&event, None), None);
        event.what = What::TunnelUnwanted { reason: Some("ä".repeat(5000)) };
        match entry(&event, None).expect("a failure is kept").what {
            EdgeEvent::TunnelUnwanted { reason: Some(reason) } => {
                assert_eq!(reason.chars().count(), MAX_TEXT)
            }
            other => panic!("{other:?}"),
        }
    }
}
