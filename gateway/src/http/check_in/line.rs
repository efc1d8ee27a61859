//! One connection's check-ins: answered without the registry while there is nothing new, and held.
//!
//! Once the registry let an agent in, the connection remembers the head of its question and how it stands. The same
//! question on the same connection is then answered here: no router, guard or task is asked, and nothing is locked that
//! anybody else holds. Everything else goes through the router: other questions, whatever has something to report, and
//! what a change closed the standing for.
//!
//! A question that may be held waits here as well, whichever way it came. When it is woken it is put to the router again, as
//! if it had just arrived; its answer leaves once.
//!
//! The rule: who was let in is decided by the router's handler only; here is no more than its memory, for one connection.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::header::{AUTHORIZATION, DATE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use hyper::body::{Body as _, Incoming};
use shared::secret::Secret;
use shared::wire::check_in::{IDENTITY_HEADER, INSTANCE_HEADER, PATH, PREFER_HEADER};
use subtle::ConstantTimeEq as _;
use tokio::time::sleep_until;
use tower_service::Service as _;

use super::prefer;
use crate::admission::Caller;
use crate::domain::standing::{Ended, Held};
use crate::http::peer::Peer;
use crate::telemetry::{CheckInLabel, HeldCheckIn, Requests, Telemetry};
use crate::tunnels::Stands;

/// Name of the operation, by which its answers are counted.
pub const OPERATION: &str = "agent.check-in";

/// Questions that are held at once. Each has an instance of its own, so there are never more than agents; a quarter of a
/// million of them take less than 1 GiB besides their connections. When full, the next is answered at once and comes back
/// after its interval.
const MAX_HELD: usize = 262_144;

/// Of the time that a question may be held, what is taken off at random: agents that came back at the same moment, after a
/// restart, say, do not ask in step for ever.
const SPREAD: f64 = 0.1;

/// What the handler of a check-in leaves in the extensions of its answer, for the connection to remember.
#[derive(Clone, Debug)]
pub struct Introduction {
    /// How the agent's instance stands.
    pub stands: Stands,
    /// For how long the answer, which says that nothing is new, is to be kept back.
    pub wait: Option<Duration>,
}

/// Whether the answer is to be kept back: then it is counted when it leaves.
pub fn is_kept_back(response: &Response) -> bool {
    response.extensions().get().is_some_and(|Introduction { wait, .. }| wait.is_some())
}

/// Who sends a request.
#[derive(Debug)]
pub struct Sender {
    /// From where.
    pub peer: Peer,
    /// As whom they were admitted to the port.
    pub caller: Caller,
    /// Whether the peer speaks for itself: a proxy's word on who sent a question changes from one to the next, and is for the
    /// registry to note.
    pub is_direct: bool,
}

/// What all connections of a listener share.
#[derive(Debug)]
pub struct Desk {
    router: Router,
    telemetry: Telemetry,
    requests: Requests,
}

impl Desk {
    /// In front of this router.
    pub fn new(router: Router, telemetry: Telemetry) -> Self {
        let requests = telemetry.requests(OPERATION);
        Self { router, telemetry, requests }
    }

    /// An answer leaves that says that nothing is new.
    fn nothing_new(&self) -> Response {
        self.telemetry.check_in(CheckInLabel::Unchanged);
        self.requests.answered(StatusCode::NO_CONTENT);
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        answer
    }

    /// The same after a hold.
    fn nothing_new_so_far(&self) -> Response {
        let mut answer = self.nothing_new();
        prefer::applied(answer.headers_mut());
        answer
    }

    /// The router's answer. An answer to a check-in that says that nothing is new has no date: an agent that asks every few
    /// seconds would pay a fifth of its traffic for it.
    async fn put(&self, mut request: Request<Body>, sender: &Sender) -> Response {
        let is_check_in = request.uri().path() == PATH;
        request.extensions_mut().insert(sender.peer);
        request.extensions_mut().insert(sender.caller.clone());
        let Ok(response) = self.router.clone().call(request).await;
        if is_check_in && response.status() == StatusCode::NO_CONTENT { response } else { dated(response) }
    }

    fn hold(&self, stands: &Stands, until: Instant) -> Result<Holding, NotHeld> {
        let place = self.telemetry.hold_check_in(MAX_HELD).ok_or(NotHeld::Full)?;
        let held = stands.standing.hold(until).ok_or(NotHeld::News)?;
        Ok(Holding { held, _place: place })
    }
}

/// One connection.
#[derive(Debug)]
pub struct Line {
    desk: Arc<Desk>,
    /// The agent that was let in last. Guards nothing else; held for a clone.
    agent: Mutex<Option<Arc<Agent>>>,
}

impl Line {
    /// A new connection.
    pub fn new(desk: Arc<Desk>) -> Self {
        Self { desk, agent: Mutex::new(None) }
    }

    /// Answers a request.
    pub fn answer(self: &Arc<Self>, request: Request<Incoming>, sender: Sender) -> Answer {
        let Some(asked) = Asked::of(&request) else {
            let desk = Arc::clone(&self.desk);
            return Answer::later(async move { desk.put(request.map(Body::new), &sender).await });
        };
        if sender.is_direct
            && request.body().is_end_stream()
            && let Some(agent) = self.known(&asked)
        {
            let (standing, hold) = (&agent.stands.standing, agent.stands.hold);
            match asked.wait.map(|wait| wait.min(hold)).filter(|wait| !wait.is_zero()) {
                None if standing.pass(Instant::now()) => {
                    return Answer::Now(Some(self.desk.nothing_new()));
                }
                None => {}
                Some(wait) => {
                    let until = end_of(wait);
                    match self.desk.hold(&agent.stands, until) {
                        Ok(holding) => {
                            let line = Arc::clone(self);
                            return Answer::later(line.wait(agent, sender, holding, until));
                        }
                        Err(NotHeld::News | NotHeld::Full) => {}
                    }
                }
            }
        }
        let (line, head) = (Arc::clone(self), asked.head());
        Answer::later(async move {
            let mut response = line.desk.put(request.map(Body::new), &sender).await;
            let Some(Introduction { stands, wait }) = response.extensions_mut().remove() else {
                return response;
            };
            let agent = line.remember(head, stands);
            let Some(until) = wait.map(end_of) else { return response };
            drop(response);
            match line.desk.hold(&agent.stands, until) {
                Ok(holding) => line.wait(agent, sender, holding, until).await,
                Err(NotHeld::News) => line.desk.nothing_new_so_far(),
                Err(NotHeld::Full) => line.desk.nothing_new(),
            }
        })
    }

    /// The agent that this question is from, if it was let in on this connection before.
    fn known(&self, asked: &Asked<'_>) -> Option<Arc<Agent>> {
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        agent.head.is(asked).then_some(agent)
    }

    fn remember(&self, head: Head, stands: Stands) -> Arc<Agent> {
        let agent = Arc::new(Agent { head, stands });
        *self.agent.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&agent));
        agent
    }

    /// Keeps the answer back until there is something to say or its time is over.
    async fn wait(
        self: Arc<Self>,
        mut agent: Arc<Agent>,
        sender: Sender,
        mut holding: Holding,
        until: Instant,
    ) -> Response {
        loop {
            let ended = tokio::select! {
                ended = &mut holding.held => Some(ended),
                () = sleep_until(until.into()) => None,
            };
            drop(holding);
            match ended {
                None => return self.desk.nothing_new_so_far(),
                // Not to ask again at once: two machines made of one disk would take each other's place for ever.
                Some(Ended::Replaced | Ended::Forgotten) => return self.desk.nothing_new(),
                Some(Ended::News) => {}
            }
            // Boxed, because it is rare and large, and the wait before it is long.
            let mut response = Box::pin(self.desk.put(agent.question(until), &sender)).await;
            let Some(Introduction { stands, wait }) = response.extensions_mut().remove() else {
                return response;
            };
            agent = self.remember(agent.head.clone(), stands);
            if wait.is_none() {
                return response;
            }
            match self.desk.hold(&agent.stands, until) {
                Ok(again) => holding = again,
                Err(NotHeld::News) => return self.desk.nothing_new_so_far(),
                Err(NotHeld::Full) => return self.desk.nothing_new(),
            }
        }
    }
}

/// When a question is answered that may wait so long.
fn end_of(wait: Duration) -> Instant {
    Instant::now() + wait.mul_f64(1.0 - SPREAD * rand::random::<f64>())
}

/// The answer with a date, as every one has it that is not about nothing (RFC 9110, 6.6.1).
pub fn dated(mut response: Response) -> Response {
    let now = || HeaderValue::try_from(httpdate::fmt_http_date(SystemTime::now()));
    response.headers_mut().entry(DATE).or_insert_with(|| now().expect("a date is visible ASCII"));
    response
}

/// Why a question was not held.
enum NotHeld {
    /// Something happened just now.
    News,
    /// As many are held as may.
    Full,
}

/// A question that is held, in its place under the cap.
struct Holding {
    held: Held,
    _place: HeldCheckIn,
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.held.release(Instant::now());
    }
}

/// An agent that was let in.
#[derive(Debug)]
struct Agent {
    head: Head,
    stands: Stands,
}

impl Agent {
    /// Its question once more.
    fn question(&self, until: Instant) -> Request<Body> {
        let left = until.saturating_duration_since(Instant::now()).as_secs().max(1);
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static(PATH);
        let value = |bytes| HeaderValue::from_bytes(bytes).expect("it was the value of a header");
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, value(self.head.part(0)));
        headers.insert(INSTANCE_HEADER, value(self.head.part(1)));
        headers.insert(HOST, value(self.head.part(2)));
        headers.insert(PREFER_HEADER, value(format!("wait={left}").as_bytes()));
        request
    }
}

/// A check-in, as far as it matters here.
struct Asked<'a> {
    /// Who asks: authorization, instance. By which host: other names than the gateway's lead elsewhere.
    parts: [&'a [u8]; 3],
    /// For how long it may be held.
    wait: Option<Duration>,
}

impl<'a> Asked<'a> {
    fn of(request: &'a Request<Incoming>) -> Option<Self> {
        if request.method() != Method::POST || request.uri().path() != PATH {
            return None;
        }
        let headers = request.headers();
        let value = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
        let host = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let parts =
            [authorization(headers)?, value(INSTANCE_HEADER)?, host.or_else(|| value(HOST.as_str()))?];
        Some(Self { parts, wait: prefer::wait(headers) })
    }

    fn head(&self) -> Head {
        let [authorization, instance, _] = self.parts.map(<[u8]>::len);
        Head { text: Secret::new(self.parts.concat()), ends: [authorization, authorization + instance] }
    }
}

/// What proves who sends a check-in, where it stands.
fn authorization(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION).or_else(|| headers.get(IDENTITY_HEADER))?;
    Some(value.as_bytes())
}

/// The parts of a question that was let in, one behind the other.
#[derive(Clone, Debug)]
struct Head {
    text: Secret<Vec<u8>>,
    ends: [usize; 2],
}

impl Head {
    fn part(&self, number: usize) -> &[u8] {
        let (text, [first, second]) = (self.text.expose(), self.ends);
        match number {
            0 => &text[..first],
            1 => &text[first..second],
            _ => &text[second..],
        }
    }

    /// Whether it is the same question. How much of a key was right must not show in the time that this takes.
    fn is(&self, asked: &Asked<'_>) -> bool {
        (0..3).all(|number| self.part(number).ct_eq(asked.parts[number]).into())
    }
}

/// An answer, most of which are there at once.
pub enum Answer {
    /// There.
    Now(Option<Response>),
    /// To come.
    Later(Pin<Box<dyn Future<Output = Response> + Send>>),
}

impl Answer {
    /// To come.
    pub fn later(answer: impl Future<Output = Response> + Send + 'static) -> Self {
        Self::Later(Box::pin(answer))
    }
}

impl Future for Answer {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Now(response) => Poll::Ready(Ok(response.take().expect("polled once to its end"))),
            Self::Later(answer) => answer.as_mut().poll(context).map(Ok),
        }
    }
}
