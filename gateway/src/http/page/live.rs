//! Pages that stay up to date: a stream of server-sent events (WHATWG HTML, section 9.2) with the fragments of a page
//! that changed, each a piece of markup with an id that takes the place of what has this id.
//!
//! A page's [`View`] says what its fragments are now. It is asked when something happens that concerns it, and now and
//! then, since some things happen without an event: check-ins above all. What looks as it looked before is not sent.
//!
//! The rules: a stream costs the registry one question for each burst of events or [`TICK`], however much happens; it
//! begins with all fragments, so that nothing is missed between page and stream.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::time::Duration;

use axum::response::{Response, sse};
use futures_util::{Stream, stream};
use maud::Markup;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Interval, MissedTickBehavior, Sleep, interval, sleep};

use crate::domain::event::Event;
use crate::http::ApiState;
use crate::http::event_stream::event_stream;
use crate::http::problem::{Code, Problem, Result};
use crate::tunnels::Watch;

/// How often a page is looked at without an event: a check-in interval, so that "last check-in" tells that it goes on.
const TICK: Duration = Duration::from_secs(5);
/// From an event to what it changed on the page. What comes meanwhile goes along: thousands of edges that come back at
/// once are a few messages.
const GATHER: Duration = Duration::from_millis(100);
/// A stream ends after this, and its page asks anew: with a session that is still good, or not at all.
const LIFE: Duration = Duration::from_secs(600);
/// What a page is told that finds all places taken, or the gateway shutting down.
const RETRY_S: u32 = 10;

/// A piece of a page that changes by itself.
#[derive(Debug)]
pub struct Fragment {
    /// Of its outermost element, which is the only one.
    pub id: String,
    /// That element.
    pub markup: Markup,
}

/// What a live page shows.
pub trait View: Send + 'static {
    /// Whether this may have changed something on it.
    fn concerns(&self, event: &Event) -> bool;

    /// All fragments as they are now, each time with the same ids.
    fn fragments(&self) -> impl Future<Output = Vec<Fragment>> + Send;
}

/// The answer to a page that wants to stay up to date.
pub async fn follow(state: &ApiState, view: impl View) -> Result<Response> {
    let watch = state.tunnels.watch(None).await.ok_or_else(|| {
        let detail =
            "as many pages are live as may be, or the gateway is shutting down; reload it in a moment";
        Problem::new(Code::Busy, detail).retry_after_s(RETRY_S)
    })?;
    Ok(event_stream(messages(watch, view)))
}

fn messages<V: View>(
    watch: Watch,
    view: V,
) -> impl Stream<Item = std::result::Result<sse::Event, Infallible>> + use<V> {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Box::pin(sleep(LIFE));
    let following = Following { watch, view, ticks, end, sent: HashMap::new(), hasher: RandomState::new() };
    stream::unfold(following, |mut following| async move {
        let message = following.next().await?;
        Some((Ok(message), following))
    })
}

/// One page's stream.
struct Following<V> {
    watch: Watch,
    view: V,
    ticks: Interval,
    end: Pin<Box<Sleep>>,
    /// Hashes of the fragments as they were sent.
    sent: HashMap<String, u64>,
    hasher: RandomState,
}

impl<V: View> Following<V> {
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            tokio::select! {
                // The first one comes at once.
                _ = self.ticks.tick() => {}
                received = self.watch.live.recv() => match received {
                    Ok(event) if !self.view.concerns(&event.event) => continue,
                    Ok(_) | Err(RecvError::Lagged(_)) => self.gather().await,
                    Err(RecvError::Closed) => return None,
                },
                () = &mut self.end => return None,
            }
            let changed = self.changed().await;
            if !changed.is_empty() {
                return Some(sse::Event::default().event("fragments").data(changed));
            }
        }
    }

    /// Lets others come, and takes them as seen.
    async fn gather(&mut self) {
        sleep(GATHER).await;
        while !matches!(self.watch.live.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
    }

    /// What looks different than what was sent, and counts as sent from now on.
    async fn changed(&mut self) -> String {
        let mut changed = String::new();
        for Fragment { id, markup } in self.view.fragments().await {
            let hash = self.hasher.hash_one(&markup.0);
            if self.sent.insert(id, hash) != Some(hash) {
                changed.push_str(&markup.0);
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use futures_util::StreamExt as _;
    use maud::html;
    use shared::id::EndpointId;
    use tokio::sync::broadcast;

    use super::*;
    use crate::domain::edge::Timestamp;
    use crate::domain::event::What;
    use crate::tunnels::Numbered;

    /// Shows a number, and beside it something that never changes.
    struct Numbers(Arc<AtomicUsize>);

    impl View for Numbers {
        fn concerns(&self, event: &Event) -> bool {
            event.edge.as_str() == "shop"
        }

        async fn fragments(&self) -> Vec<Fragment> {
            let number = self.0.load(Relaxed);
            let fixed = Fragment { id: "fixed".into(), markup: html! { p #fixed { "here" } } };
            vec![Fragment { id: "number".into(), markup: html! { p #number { (number) } } }, fixed]
        }
    }

    fn event(edge: &str) -> Arc<Numbered> {
        let edge = edge.parse().expect("a label");
        let endpoint = EndpointId::from_bytes([1; 16]);
        let event = Event { at: Timestamp(1), edge, endpoint, tags: vec![], what: What::TunnelWanted };
        Arc::new(Numbered { id: "7-1".parse().expect("an id"), event })
    }

    struct Page {
        number: Arc<AtomicUsize>,
        events: broadcast::Sender<Arc<Numbered>>,
        body: Pin<Box<dyn Stream<Item = String> + Send>>,
    }

    impl Page {
        fn new() -> Self {
            let (events, live) = broadcast::channel(4);
            let watch = Watch { missed: None, last: "7-0".parse().expect("an id"), live };
            let number = Arc::<AtomicUsize>::default();
            let body = event_stream(messages(watch, Numbers(Arc::clone(&number)))).into_body();
            let frames = body.into_data_stream().map(|frame| {
                String::from_utf8(frame.expect("a stream without errors").into()).expect("text")
            });
            Self { number, events, body: Box::pin(frames) }
        }

        async fn next(&mut self) -> Option<String> {
            self.body.next().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn page_gets_everything_first_and_then_what_changed_only() {
        let mut page = Page::new();
        let first = page.next().await.expect("a message");
        assert_eq!(first, "event: fragments\ndata: <p id=\"number\">0</p><p id=\"fixed\">here</p>\n\n");
        page.number.store(1, Relaxed);
        assert_eq!(
            page.next().await.expect("a message at the next tick"),
            "event: fragments\ndata: <p id=\"number\">1</p>\n\n"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn burst_of_events_is_one_message_and_those_of_others_are_none() {
        let mut page = Page::new();
        page.next().await.expect("a message");
        let start = tokio::time::Instant::now();
        page.number.store(2, Relaxed);
        page.events.send(event("other")).expect("somebody listens");
        // More than the channel keeps: to have missed some is as good as an event.
        (0..9).for_each(|_| drop(page.events.send(event("shop"))));
        assert!(page.next().await.expect("a message").contains(">2<"));
        assert!(start.elapsed() < TICK, "it did not wait for the next look");
        page.number.store(3, Relaxed);
        page.events.send(event("other")).expect("somebody listens");
        assert!(page.next().await.expect("a message").contains(">3<"));
        assert!(start.elapsed() >= TICK, "an event of another edge is no reason to look");
    }

    #[tokio::test(start_paused = true)]
    async fn stream_ends_with_its_life_and_with_the_gateway() {
        let mut page = Page::new();
        while page.next().await.is_some() {}
        let mut page = Page::new();
        page.next().await.expect("a message");
        drop(page.events);
        assert_eq!(page.body.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn ends_of_lines_in_a_fragment_stay_inside_its_message() {
        let (_events, live) = broadcast::channel(4);
        let watch = Watch { missed: None, last: "7-0".parse().expect("an id"), live };
        struct Lines;
        impl View for Lines {
            fn concerns(&self, _: &Event) -> bool {
                false
            }
            async fn fragments(&self) -> Vec<Fragment> {
                vec![Fragment { id: "a".into(), markup: html! { pre #a { "one\n\nevent: two" } } }]
            }
        }
        let body = event_stream(messages(watch, Lines)).into_body();
        let first = body.into_data_stream().next().await.expect("a message").expect("no error");
        assert_eq!(first, "event: fragments\ndata: <pre id=\"a\">one\ndata: \ndata: event: two</pre>\n\n");
    }
}
