//! What happens to edges, told while it happens: server-sent events (WHATWG HTML, section 9.2).
//!
//! A stream begins with what its reader missed, or with `resync` where that is not known, and goes on until the gateway
//! drains or [`LIFE`] is over; the reader comes back with `last-event-id` and misses nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{Response, sse};
use futures_util::{Stream, stream};
use http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;
use shared::id::{EdgeName, EndpointId};
use shared::wire::admin;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Sleep;

use crate::access::Operator;
use crate::domain::authority::Reach;
use crate::domain::refusal::AdminError;
use crate::domain::view;
use crate::http::ApiState;
use crate::http::body::Query;
use crate::http::event_stream::event_stream;
use crate::http::problem::{Code, Problem, Result};
use crate::tunnels::{EventId, Numbered, Watch};

/// A stream ends after this, and its reader comes back: with credentials that are still good, or not at all.
const LIFE: Duration = Duration::from_secs(600);
/// What a reader is told that finds all places taken, or the gateway shutting down.
const RETRY_S: u32 = 10;
/// The header in which a reader names the last event that it saw.
const LAST_EVENT_ID: &str = "last-event-id";

/// Query of the stream.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventQuery {
    /// Only what happens to this edge, under whatever name.
    edge: Option<EdgeName>,
    /// As `last-event-id`, for who opens a stream and can set no header.
    after: Option<String>,
}

/// `GET /events`.
pub(super) async fn follow(
    State(state): State<Arc<ApiState>>,
    operator: Operator,
    Query(query): Query<EventQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let only = match query.edge {
        Some(name) => {
            let edge = state.tunnels.edge(&name).await?;
            if !operator.reach.covers(&edge.tags) {
                return Err(AdminError::NoSuchEdge(name).into());
            }
            Some(edge.endpoint_id)
        }
        None => None,
    };
    // What is no id of ours is as good as none: the reader is told to read the state anew.
    let header = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let after = header.or(query.after.as_deref()).and_then(|text| text.parse::<EventId>().ok());
    let watch = state.tunnels.watch(after).await.ok_or_else(|| {
        let detail =
            "as many follow the events as may, or the gateway is shutting down; try again in a moment";
        Problem::new(Code::Busy, detail).retry_after_s(RETRY_S)
    })?;
    Ok(event_stream(Following::new(watch, only, operator.reach).into_stream()))
}

/// One reader's stream.
struct Following {
    reach: Reach,
    only: Option<EndpointId>,
    first: VecDeque<sse::Event>,
    live: broadcast::Receiver<Arc<Numbered>>,
    end: Pin<Box<Sleep>>,
}

impl Following {
    fn new(watch: Watch, only: Option<EndpointId>, reach: Reach) -> Self {
        let Watch { missed, last, live } = watch;
        let end = Box::pin(tokio::time::sleep(LIFE));
        let mut following = Self { reach, only, first: VecDeque::new(), live, end };
        following.first = match missed {
            Some(missed) => missed.iter().filter_map(|event| following.message(event)).collect(),
            None => [resync().id(last.to_string())].into(),
        };
        following
    }

    fn into_stream(self) -> impl Stream<Item = std::result::Result<sse::Event, Infallible>> {
        stream::unfold(self, |mut following| async move {
            let message = following.next().await?;
            Some((Ok(message), following))
        })
    }

    async fn next(&mut self) -> Option<sse::Event> {
        if let Some(message) = self.first.pop_front() {
            return Some(message);
        }
        loop {
            let received = tokio::select! {
                received = self.live.recv() => received,
                () = &mut self.end => return None,
            };
            match received {
                Ok(event) => {
                    if let Some(message) = self.message(&event) {
                        return Some(message);
                    }
                }
                Err(RecvError::Lagged(_)) => return Some(resync()),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn message(&self, numbered: &Numbered) -> Option<sse::Event> {
        if self.only.is_some_and(|only| only != numbered.event.endpoint) {
            return None;
        }
        let event: admin::Event = view::event(&*numbered.event.seen_by(|tags| self.reach.covers(tags))?);
        let data = serde_json::to_string(&event).expect("texts and numbers have no failing serializer");
        Some(sse::Event::default().id(numbered.id.to_string()).event(event.what.kind()).data(data))
    }
}

/// Some events were missed.
fn resync() -> sse::Event {
    sse::Event::default().event(admin::RESYNC).data("{}")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::domain::edge::Timestamp;
    use crate::domain::event::{Event, What};

    fn numbered(number: u64, edge: &str, tag: &str, what: What) -> Arc<Numbered> {
        let (at, endpoint) = (Timestamp(number), EndpointId::from_bytes([number as u8; 16]));
        let event =
            Event { at, edge: edge.parse().expect("a label"), endpoint, tags: vec![tag.into()], what };
        Arc::new(Numbered { id: format!("7-{number}").parse().expect("an id"), event })
    }

    async fn text(following: Following) -> String {
        let body = event_stream(following.into_stream()).into_body();
        let bytes = body.collect().await.expect("a stream without errors").to_bytes();
        String::from_utf8(bytes.into()).expect("text")
    }

    #[tokio::test]
    async fn reader_sees_the_edges_in_its_reach_only_missed_ones_and_new_ones_alike() {
        let (sender, live) = broadcast::channel(8);
        let missed =
            vec![numbered(1, "ours", "berlin", What::Joined), numbered(2, "theirs", "oslo", What::Joined)];
        let watch = Watch { missed: Some(missed), last: "7-2".parse().expect("an id"), live };
        let following = Following::new(watch, None, Reach::tagged(["berlin".to_owned()]));
        let before = ("ours".parse().expect("a label"), vec!["berlin".to_owned()]);
        for event in [
            numbered(3, "theirs", "oslo", What::TunnelWanted),
            numbered(4, "ours", "berlin", What::TunnelWanted),
            numbered(5, "secret", "oslo", What::Changed { name: before.0, tags: before.1 }),
        ] {
            sender.send(event).expect("somebody listens");
        }
        drop(sender);
        let text = text(following).await;
        let kinds: Vec<_> = text.lines().filter(|line| line.starts_with("event:")).collect();
        assert_eq!(kinds, ["event: joined", "event: tunnel-wanted", "event: deleted"]);
        assert!(!text.contains("theirs") && !text.contains("secret") && !text.contains("oslo"), "{text}");
    }

    #[tokio::test]
    async fn reader_that_falls_behind_is_told_to_read_anew() {
        let (sender, live) = broadcast::channel(2);
        let watch = Watch { missed: Some(vec![]), last: "7-0".parse().expect("an id"), live };
        let following = Following::new(watch, None, Reach::all());
        for number in 1..=5 {
            sender.send(numbered(number, "shop", "x", What::TunnelWanted)).expect("somebody listens");
        }
        drop(sender);
        let text = text(following).await;
        let firsts: Vec<_> = text.lines().filter(|line| line.starts_with("event:")).collect();
        assert_eq!(firsts, ["event: resync", "event: tunnel-wanted", "event: tunnel-wanted"]);
    }

    #[tokio::test(start_paused = true)]
    async fn stream_ends_after_its_life() {
        let (_sender, live) = broadcast::channel(2);
        let watch = Watch { missed: None, last: "7-3".parse().expect("an id"), live };
        let text = text(Following::new(watch, None, Reach::all())).await;
        // But for the comments that keep the connection alive.
        assert_eq!(text.replace(":\n\n", ""), "event: resync\ndata: {}\nid: 7-3\n\n");
    }
}
