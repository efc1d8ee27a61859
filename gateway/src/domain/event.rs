//! What happened to an edge, for whoever watches: pages, `tidegate events`, the history of an edge. Pure.
//!
//! An event says what is so now, not how it came about: whoever missed some asks for the edge and knows as much. Nothing
//! secret is in one. The rule: an event carries the edge's tags, so that who may see it is decided by the event alone,
//! also once the edge has been renamed, tagged anew or deleted.

use std::borrow::Cow;

use shared::id::{EdgeName, EndpointId, InstanceId};

use super::edge::Timestamp;
use super::tunnel::LinkId;

/// Something that happened to an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// The edge's name from then on.
    pub edge: EdgeName,
    /// Its public id.
    pub endpoint: EndpointId,
    /// Its tags from then on.
    pub tags: Vec<String>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The edge was enrolled.
    Created,
    /// Its record changed.
    Changed {
        /// Its name before.
        name: EdgeName,
        /// Its tags before.
        tags: Vec<String>,
    },
    /// It is gone.
    Deleted,
    /// An edge ID claimed its key.
    Joined,
    /// Its binding was freed.
    Dissociated,
    /// An agent checks in, and none did before.
    Online {
        /// Which instance.
        instance: InstanceId,
        /// Its host's name, as far as it said.
        hostname: Option<String>,
    },
    /// No instance is left that checks in.
    Offline {
        /// The last check-in.
        last_seen: Option<Timestamp>,
    },
    /// A second live instance was refused, on an edge that is no cluster.
    Duplicate {
        /// Host of the instance that is there.
        present: String,
        /// Host of the one that was refused, as far as it said.
        refused: Option<String>,
    },
    /// The flag is up.
    TunnelWanted,
    /// Somebody has credentials for the tunnel, or is logging in; no instance where that is a stock client.
    TunnelOffered {
        /// Which instance.
        instance: Option<InstanceId>,
    },
    /// Streams can be opened; no instance where a stock client has the tunnel.
    TunnelOpened {
        /// Which instance.
        instance: Option<InstanceId>,
    },
    /// The tunnel that was open is no more.
    TunnelClosed {
        /// Which link it was.
        link: Option<LinkId>,
        /// By whose doing.
        cause: Cause,
        /// The same in words.
        reason: String,
        /// How long it was open, in milliseconds.
        open_ms: u64,
    },
    /// Nobody wants the tunnel any more, and it had not opened.
    TunnelUnwanted {
        /// Why it had not, if an attempt failed.
        reason: Option<String>,
    },
    /// The edge's snapshot was stored.
    SnapshotReceived {
        /// Which instance took it.
        instance: InstanceId,
    },
}

/// By whose doing an open tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nobody used it: the agent asked to close it.
    Idle,
    /// An operator lowered the flag.
    Operator,
    /// The edge or the credentials were taken back.
    Revoked,
    /// The gateway shut down.
    Shutdown,
    /// The connection ended by itself.
    Lost,
}

impl Event {
    /// The event as somebody sees it who sees the edges whose tags `covers` accepts. An edge that is tagged out of one's
    /// sight is gone, under the name by which one knew it; one that is tagged into it is new.
    pub fn seen_by(&self, covers: impl Fn(&[String]) -> bool) -> Option<Cow<'_, Self>> {
        let now = covers(&self.tags);
        let What::Changed { name, tags } = &self.what else { return now.then_some(Cow::Borrowed(self)) };
        match (covers(tags), now) {
            (true, true) => Some(Cow::Borrowed(self)),
            (false, true) => Some(Cow::Owned(Self { what: What::Created, ..self.clone() })),
            (true, false) => {
                let (edge, tags) = (name.clone(), tags.clone());
                Some(Cow::Owned(Self { edge, tags, what: What::Deleted, ..*self }))
            }
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(tags: &[&str], what: What) -> Event {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let edge = "new".parse().expect("a label");
        Event { at: Timestamp(1), edge, endpoint: EndpointId::from_bytes([1; 16]), tags, what }
    }

    fn berlin(tags: &[String]) -> bool {
        tags.iter().any(|tag| tag == "berlin")
    }

    #[test]
    fn an_edge_is_seen_by_its_tags_only() {
        assert_eq!(event(&["oslo"], What::Joined).seen_by(berlin), None);
        let seen = event(&["berlin", "oslo"], What::Joined);
        assert_eq!(seen.seen_by(berlin).as_deref(), Some(&seen));
    }

    #[test]
    fn an_edge_that_is_tagged_out_of_sight_is_gone_and_one_that_is_tagged_into_it_is_new() {
        let was = |tag: &str| What::Changed { name: "old".parse().expect("a label"), tags: vec![tag.into()] };
        let gone = event(&["oslo"], was("berlin"));
        let gone = gone.seen_by(berlin).expect("seen for the last time");
        assert_eq!((gone.edge.as_str(), &gone.what), ("old", &What::Deleted));
        assert_eq!(gone.tags, ["berlin"], "what it is tagged with now is none of their business");
        let new = event(&["berlin"], was("oslo"));
        let new = new.seen_by(berlin).expect("seen from now on");
        assert_eq!((new.edge.as_str(), &new.what), ("new", &What::Created));
        assert_eq!(event(&["oslo"], was("oslo")).seen_by(berlin), None);
        let both = event(&["berlin"], was("berlin"));
        assert_eq!(both.seen_by(berlin).as_deref(), Some(&both));
    }
}
