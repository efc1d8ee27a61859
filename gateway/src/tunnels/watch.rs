//! Events on their way to those who watch: numbered, kept for a while, and told to everybody at once.
//!
//! The rule: a watcher costs the registry nothing, however slow it is. One that falls behind by more than [`KEPT`] events
//! hears that it did, and asks for the state of things anew; so does one that comes back after longer than that, or from
//! before the gateway's last start.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tokio::sync::broadcast;

use crate::domain::edge::Timestamp;
use crate::domain::event::Event;

/// Events that are kept for watchers that are slow or were away. A few hundred bytes each; after a restart of the gateway
/// every edge comes online within its interval, and fifteen thousand of them leave a watcher more than a second.
const KEPT: usize = 4096;

/// Watchers at once: every open page and every `tidegate events` is one. Each costs a connection of port 9000, of which
/// they may not take more than a small part.
const MAX_WATCHERS: usize = 256;

/// An event's place in the order of all events of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// The start of the gateway, in milliseconds since 1970: numbers begin anew with each.
    run: u64,
    number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.run, self.number)
    }
}

/// A text is no id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of an event looks like 1795000000000-17")]
pub struct NoEventId;

impl FromStr for EventId {
    type Err = NoEventId;

    fn from_str(text: &str) -> Result<Self, NoEventId> {
        let (run, number) = text.split_once('-').ok_or(NoEventId)?;
        let parse = |text: &str| text.parse().map_err(|_| NoEventId);
        Ok(Self { run: parse(run)?, number: parse(number)? })
    }
}

/// An event with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Its place.
    pub id: EventId,
    /// What happened.
    pub event: Event,
}

/// What a watcher has to go on.
#[derive(Debug)]
pub struct Watch {
    /// What it missed since the event that it saw last; `None` where that is not known, and it has to read the state of
    /// things anew.
    pub missed: Option<Vec<Arc<Numbered>>>,
    /// The last event before `live`.
    pub last: EventId,
    /// What happens from now on. Ends when the gateway shuts down.
    pub live: broadcast::Receiver<Arc<Numbered>>,
}

/// The registry's end.
pub(super) struct Events {
    last: EventId,
    kept: VecDeque<Arc<Numbered>>,
    /// `None` once the gateway shuts down.
    watchers: Option<broadcast::Sender<Arc<Numbered>>>,
}

impl Events {
    pub(super) fn new(start: Timestamp) -> Self {
        let (watchers, _) = broadcast::channel(KEPT);
        Self { last: EventId { run: start.0, number: 0 }, kept: VecDeque::new(), watchers: Some(watchers) }
    }

    /// Tells everybody who watches.
    pub(super) fn publish(&mut self, event: Event) {
        self.last.number += 1;
        let event = Arc::new(Numbered { id: self.last, event });
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Arc::clone(&event));
        if let Some(watchers) = &self.watchers {
            // Nobody watching is no error.
            let _ = watchers.send(event);
        }
    }

    pub(super) fn watch(&self, after: Option<EventId>) -> Option<Watch> {
        let watchers = self.watchers.as_ref().filter(|watchers| watchers.receiver_count() < MAX_WATCHERS)?;
        let missed = after.and_then(|after| self.since(after));
        Some(Watch { missed, last: self.last, live: watchers.subscribe() })
    }

    pub(super) fn last(&self) -> EventId {
        self.last
    }

    pub(super) fn watchers(&self) -> usize {
        self.watchers.as_ref().map_or(0, broadcast::Sender::receiver_count)
    }

    /// Nobody watches any more.
    pub(super) fn end(&mut self) {
        self.watchers = None;
    }

    fn since(&self, after: EventId) -> Option<Vec<Arc<Numbered>>> {
        let missed = self.last.number.checked_sub(after.number)?;
        let missed = usize::try_from(missed).ok().filter(|missed| *missed <= self.kept.len())?;
        (after.run == self.last.run)
            .then(|| self.kept.range(self.kept.len() - missed..).map(Arc::clone).collect())
    }
}

#[cfg(test)]
mod tests {
    use shared::id::EndpointId;
    use tokio::sync::broadcast::error::RecvError;

    use super::*;
    use crate::domain::event::What;

    fn event() -> Event {
        let edge = "shop".parse().expect("a label");
        let endpoint = EndpointId::from_bytes([1; 16]);
        Event { at: Timestamp(1), edge, endpoint, tags: vec![], what: What::Joined }
    }

    fn events(count: usize) -> Events {
        let mut events = Events::new(Timestamp(7));
        (0..count).for_each(|_| events.publish(event()));
        events
    }

    fn id(number: u64) -> EventId {
        EventId { run: 7, number }
    }

    #[test]
    fn who_comes_back_hears_exactly_what_it_missed() {
        let events = events(10);
        let missed = events.watch(Some(id(7))).expect("a place").missed.expect("all of it is kept");
        assert_eq!(missed.iter().map(|event| event.id).collect::<Vec<_>>(), [id(8), id(9), id(10)]);
        assert_eq!(events.watch(Some(id(10))).expect("a place").missed, Some(vec![]));
    }

    #[test]
    fn who_was_away_too_long_or_before_the_last_start_is_told_so() {
        let events = events(KEPT + 5);
        let missed = |after| events.watch(after).expect("a place").missed;
        assert_eq!(missed(Some(id(5))).map(|missed| missed.len()), Some(KEPT));
        assert_eq!(missed(Some(id(4))), None);
        assert_eq!(missed(Some(EventId { run: 6, number: KEPT as u64 })), None, "of an earlier start");
        assert_eq!(missed(Some(id(u64::MAX))), None, "from the future");
        assert_eq!(missed(None), None);
    }

    #[tokio::test]
    async fn slow_watcher_is_told_that_it_fell_behind_and_goes_on() {
        let mut events = events(0);
        let mut watch = events.watch(None).expect("a place");
        (0..KEPT + 3).for_each(|_| events.publish(event()));
        assert_eq!(watch.live.recv().await, Err(RecvError::Lagged(3)));
        assert_eq!(watch.live.recv().await.expect("the oldest that is kept").id, id(4));
        events.end();
        for number in 5..=KEPT as u64 + 3 {
            assert_eq!(watch.live.recv().await.expect("it was published before the end").id, id(number));
        }
        assert_eq!(watch.live.recv().await, Err(RecvError::Closed));
        assert!(events.watch(None).is_none(), "the gateway is shutting down");
    }

    #[test]
    fn places_of_watchers_are_bounded_and_given_back() {
        let events = events(0);
        let mut watchers: Vec<_> = (0..MAX_WATCHERS).map(|_| events.watch(None).expect("a place")).collect();
        assert!(events.watch(None).is_none());
        watchers.pop();
        assert!(events.watch(None).is_some());
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        assert_eq!(id(17).to_string().parse(), Ok(id(17)));
        for bad in ["", "7", "7-", "-7", "7-x", "7-1-2"] {
            assert_eq!(bad.parse::<EventId>(), Err(NoEventId), "{bad}");
        }
    }
}
