//! Edges that are used by somebody who is bound to tags: whoever uses one hears when it leaves their reach, because its
//! tags were changed or because it was deleted.
//!
//! The rule: who reaches every edge costs nothing here, and a change of an edge wakes those who use that very edge.

use std::collections::HashMap;

use shared::id::EndpointId;
use tokio::sync::watch;

use crate::domain::authority::Reach;
use crate::domain::edge::EdgeRecord;
use crate::domain::event::{Event, What};

/// From so many edges on, those that nobody uses any more are looked for.
const SWEEP: usize = 64;

/// An edge within somebody's reach.
#[derive(Clone, Debug)]
pub struct Within(Option<Bound>);

#[derive(Clone, Debug)]
struct Bound {
    reach: Reach,
    tags: watch::Receiver<Vec<String>>,
}

impl Within {
    /// For who reaches every edge.
    pub fn always() -> Self {
        Self(None)
    }

    /// Completes once the edge is not within reach any more.
    pub async fn left(self) {
        let Some(Bound { reach, mut tags }) = self.0 else { return std::future::pending().await };
        // An error means that the edge is gone.
        let _ = tags.wait_for(|tags| !reach.covers(tags)).await;
    }
}

/// The registry's end: the tags of edges that are used by somebody who is bound to some.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    tags: HashMap<EndpointId, watch::Sender<Vec<String>>>,
    /// How many were used when those that nobody uses were looked for last.
    used: usize,
}

impl Bounds {
    /// The edge for as long as it is within `reach`; `None` where it is not even now.
    pub(super) fn within(&mut self, edge: &EdgeRecord, reach: Reach) -> Option<Within> {
        if !reach.covers(&edge.tags) {
            return None;
        }
        if self.tags.len() >= SWEEP.max(self.used * 2) {
            self.tags.retain(|_, tags| tags.receiver_count() > 0);
            self.used = self.tags.len();
        }
        let tags = self.tags.entry(edge.endpoint).or_insert_with(|| watch::Sender::new(edge.tags.clone()));
        Some(Within(Some(Bound { reach, tags: tags.subscribe() })))
    }

    /// Follows what happens to edges.
    pub(super) fn heed(&mut self, event: &Event) {
        match &event.what {
            What::Changed { .. } => {
                if let Some(tags) = self.tags.get(&event.endpoint) {
                    tags.send_replace(event.tags.clone());
                }
            }
            What::Deleted => drop(self.tags.remove(&event.endpoint)),
            What::Created
            | What::Joined
            | What::Dissociated
            | What::Online { .. }
            | What::Offline { .. }
            | What::Duplicate { .. }
            | What::TunnelWanted
            | What::TunnelOffered { .. }
            | What::TunnelOpened { .. }
            | What::TunnelClosed { .. }
            | What::TunnelUnwanted { .. }
            | What::SnapshotReceived { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::domain::edge::Timestamp;

    fn edge(number: u64, tags: &[&str]) -> EdgeRecord {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        EdgeRecord { tags, ..crate::store::suite::edge(number) }
    }

    fn berlin() -> Reach {
        Reach::tagged(["berlin".to_owned()])
    }

    fn tagged(edge: &EdgeRecord, tags: &[&str]) -> Event {
        Event {
            at: Timestamp(1),
            edge: edge.name.clone(),
            endpoint: edge.endpoint,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            what: What::Changed { name: edge.name.clone(), tags: edge.tags.clone() },
        }
    }

    fn has_left(within: &Within) -> bool {
        within.clone().left().now_or_never().is_some()
    }

    #[test]
    fn an_edge_leaves_with_the_last_tag_that_counts_and_with_its_end() {
        let (mut bounds, shop, other) =
            (Bounds::default(), edge(1, &["berlin", "web"]), edge(2, &["berlin"]));
        assert!(bounds.within(&edge(3, &["oslo"]), berlin()).is_none());
        let (of_shop, of_other) = (
            bounds.within(&shop, berlin()).expect("tagged"),
            bounds.within(&other, berlin()).expect("tagged"),
        );
        bounds.heed(&tagged(&shop, &["berlin"]));
        assert!(!has_left(&of_shop), "it has lost a tag that does not count");
        bounds.heed(&tagged(&shop, &["oslo"]));
        assert!(has_left(&of_shop) && !has_left(&of_other));
        bounds.heed(&Event { what: What::Deleted, ..tagged(&other, &["berlin"]) });
        assert!(has_left(&of_other));
        assert!(!has_left(&Within::always()));
    }

    #[test]
    fn edges_that_nobody_uses_take_no_room_for_long() {
        let mut bounds = Bounds::default();
        let kept = bounds.within(&edge(0, &["berlin"]), berlin()).expect("tagged");
        for number in 1..=1000 {
            drop(bounds.within(&edge(number, &["berlin"]), berlin()).expect("tagged"));
        }
        assert!(bounds.tags.len() <= SWEEP, "{}", bounds.tags.len());
        bounds.heed(&tagged(&edge(0, &["berlin"]), &[]));
        assert!(has_left(&kept), "who still uses one is not forgotten");
    }
}
