//! Check-ins that are held: asked by hand, over HTTP/2 and HTTP/1.1, on connections that are kept.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, DATE, HOST};
use hyper::{Method, Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use shared::id::{EdgeId, EdgeKey, InstanceId};
use shared::wire::admin::{EdgeCreated, EdgeStatus, Settings};
use shared::wire::check_in::{
    APPLIED_HEADER, Answer, Authorization, HELD, INSTANCE_HEADER, Need, PATH, PREFER_HEADER,
};
use tests::gateway::Gateway;
use tests::http::{self, Http};
use tests::liar::Liar;
use tests::wait::{SOON, until};
use tokio::task::JoinHandle;

/// Longer than any of these tests waits for a hold to end by itself.
const LONG_S: u32 = 50;
/// How an offer may be late on a loaded machine. Without a hold it would come with the next question, which nobody asks.
const AT_ONCE: Duration = Duration::from_secs(5);

/// One kept connection.
enum Wire {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Which protocol to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Http1,
    Http2,
}

/// One instance of an edge, on one connection.
struct Caller {
    wire: Wire,
    host: String,
    authorization: String,
    instance: InstanceId,
    connection: JoinHandle<()>,
}

impl Caller {
    /// A new instance with an edge ID of its own, which says hello.
    async fn join(gateway: &Gateway, edge: &EdgeCreated, speech: Speech) -> Self {
        let key: EdgeKey = edge.key.parse().expect("the gateway makes good keys");
        let authorization = Authorization { edge_id: EdgeId::random(), key }.expose();
        let mut caller = Self::connect(gateway, authorization, InstanceId::random(), speech).await;
        caller.hello().await.expect(200);
        caller
    }

    async fn connect(gateway: &Gateway, authorization: String, instance: InstanceId, speech: Speech) -> Self {
        let http = Http::pinned(gateway.api(), &[gateway.pin()]);
        let io = TokioIo::new(http.connect().await.expect("it listens"));
        let (wire, connection) = match speech {
            Speech::Http1 => {
                let (wire, connection) = http1::handshake(io).await.expect("a connection");
                (Wire::Http1(wire), tokio::spawn(async { drop(connection.await) }))
            }
            Speech::Http2 => {
                let handshake = http2::handshake(TokioExecutor::new(), io).await;
                let (wire, connection) = handshake.expect("a connection");
                (Wire::Http2(wire), tokio::spawn(async { drop(connection.await) }))
            }
        };
        Self { wire, host: gateway.api().to_string(), authorization, instance, connection }
    }

    /// The same instance on a new connection.
    async fn again(&self, gateway: &Gateway, speech: Speech) -> Self {
        Self::connect(gateway, self.authorization.clone(), self.instance, speech).await
    }

    /// Another instance with the same edge ID, which says hello.
    async fn sibling(&self, gateway: &Gateway) -> (Self, http::Answer) {
        let authorization = self.authorization.clone();
        let mut caller = Self::connect(gateway, authorization, InstanceId::random(), Speech::Http2).await;
        let answer = caller.hello().await;
        (caller, answer)
    }

    async fn hello(&mut self) -> http::Answer {
        let body = serde_json::to_vec(&Liar::hello(&["web"])).expect("serializes");
        self.ask(body, None).await
    }

    /// One question, and its answer.
    async fn ask(&mut self, body: Vec<u8>, wait_s: Option<u32>) -> http::Answer {
        read(self.start(body, wait_s)).await
    }

    /// A question that may be held; its answer comes when it comes.
    fn hold(&mut self, wait_s: u32) -> JoinHandle<http::Answer> {
        tokio::spawn(read(self.start(vec![], Some(wait_s))))
    }

    fn start(
        &mut self,
        body: Vec<u8>,
        wait_s: Option<u32>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        let request = Request::builder()
            .method(Method::POST)
            .header(AUTHORIZATION, &self.authorization)
            .header(INSTANCE_HEADER, self.instance.to_string())
            .header(CONTENT_TYPE, "application/json");
        let request = match wait_s {
            Some(seconds) => request.header(PREFER_HEADER, format!("wait={seconds}")),
            None => request,
        };
        let body = Full::new(body.into());
        let valid = "all of these are visible ASCII";
        let (one, two) = match &mut self.wire {
            Wire::Http1(wire) => {
                let request = request.uri(PATH).header(HOST, &self.host).body(body).expect(valid);
                (Some(wire.send_request(request)), None)
            }
            Wire::Http2(wire) => {
                let uri = format!("https://{}{PATH}", self.host);
                (None, Some(wire.send_request(request.uri(uri).body(body).expect(valid))))
            }
        };
        async move {
            match (one, two) {
                (Some(answer), _) => answer.await,
                (None, answer) => answer.expect("one of the two").await,
            }
        }
    }
}

async fn read(answer: impl Future<Output = hyper::Result<Response<Incoming>>>) -> http::Answer {
    let (head, body) = answer.await.expect("an answer").into_parts();
    let body = body.collect().await.expect("a whole answer").to_bytes();
    http::Answer { status: head.status, headers: head.headers, body }
}

/// Whether the agent is to ask again at once.
fn is_applied(answer: &http::Answer) -> bool {
    answer.headers.get(APPLIED_HEADER).is_some_and(|value| value == HELD)
}

async fn set_hold(gateway: &Gateway, seconds: u32) {
    gateway.admin.set(Settings { hold_s: Some(seconds), ..Settings::default() }).await;
}

/// The value of a metric.
async fn metric(gateway: &Gateway, name: &str) -> f64 {
    let page = Http::plain(gateway.metrics()).get("/metrics").await.expect("an answer").text();
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().expect("a number")
}

async fn held(gateway: &Gateway, count: usize) {
    until(SOON, &format!("{count} check-ins are held"), async || {
        (metric(gateway, "tidegate_check_ins_held").await == count as f64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn held_question_has_its_offer_at_once_over_either_protocol() {
    let gateway = Gateway::start().await;
    set_hold(&gateway, LONG_S).await;
    for (name, speech) in [("one", Speech::Http1), ("two", Speech::Http2)] {
        let edge = gateway.admin.create(name).await;
        let mut caller = Caller::join(&gateway, &edge, speech).await;
        // The second goes the way of those that are known on their connection.
        for _ in 0..2 {
            let question = caller.hold(LONG_S);
            held(&gateway, 1).await;
            let before = Instant::now();
            gateway.admin.raise(name).await;
            let answer = question.await.expect("no panic").expect(200);
            assert!(before.elapsed() < AT_ONCE, "{speech:?} {:?}", before.elapsed());
            assert!(!is_applied(&answer), "with an offer, the agent has better to do than to ask again");
            let answer: Answer = answer.json();
            assert!(answer.need == Need::Tunnel && answer.offer.is_some());
            gateway.admin.lower(name).await;
        }
        let edge = gateway.admin.edge(name).await;
        assert_eq!(edge.status, EdgeStatus::Online);
    }
}

#[tokio::test]
async fn hold_ends_by_itself_with_a_word_that_it_was_one() {
    let gateway = Gateway::start().await;
    set_hold(&gateway, 1).await;
    let edge = gateway.admin.create("shop").await;
    for speech in [Speech::Http1, Speech::Http2] {
        let mut caller = Caller::join(&gateway, &edge, speech).await;
        for _ in 0..2 {
            let before = Instant::now();
            let answer = caller.ask(vec![], Some(LONG_S)).await.expect(204);
            assert!(before.elapsed() >= Duration::from_millis(850), "{:?}", before.elapsed());
            assert!(is_applied(&answer) && answer.headers.get(DATE).is_none(), "{:?}", answer.headers);
        }
        let plain = caller.ask(vec![], None).await.expect(204);
        assert!(!is_applied(&plain));
        assert!(plain.headers.is_empty(), "each header is paid for in every check-in: {:?}", plain.headers);
        let hello = caller.ask(serde_json::to_vec(&Liar::hello(&[])).expect("serializes"), Some(5)).await;
        assert!(is_applied(&hello.expect(200)), "it is told to ask again, and is held then");
        gateway.admin.dissociate("shop").await;
    }
    let unchanged = metric(&gateway, "tidegate_check_ins_total{answer=\"unchanged\"}").await;
    let answered = "tidegate_http_requests_total{operation=\"agent.check-in\",status=\"2xx\"}";
    let hellos = metric(&gateway, "tidegate_check_ins_total{answer=\"not-needed\"}").await;
    assert_eq!((unchanged, hellos), (6.0, 4.0));
    assert_eq!(metric(&gateway, answered).await, unchanged + hellos, "each is counted once");
}

#[tokio::test]
async fn change_of_the_hold_reaches_those_who_are_held() {
    let gateway = Gateway::start().await;
    set_hold(&gateway, LONG_S).await;
    let edge = gateway.admin.create("shop").await;
    let mut caller = Caller::join(&gateway, &edge, Speech::Http2).await;
    let question = caller.hold(LONG_S);
    held(&gateway, 1).await;
    gateway.admin.set(Settings { interval_s: Some(7), ..Settings::default() }).await;
    gateway.admin.set(Settings { interval_s: Some(1), ..Settings::default() }).await;
    set_hold(&gateway, 0).await;
    let answer = question.await.expect("no panic").expect(204);
    assert!(!is_applied(&answer), "nothing is held here any more");
    held(&gateway, 0).await;
    let before = Instant::now();
    caller.ask(vec![], Some(LONG_S)).await.expect(204);
    assert!(before.elapsed() < AT_ONCE);
}

#[tokio::test]
async fn one_instance_of_a_cluster_has_the_offer_and_the_other_the_next() {
    let gateway = Gateway::start().await;
    set_hold(&gateway, LONG_S).await;
    let edge = gateway.admin.create_with("swarm", |edge| edge.cluster = true).await;
    let mut one = Caller::join(&gateway, &edge, Speech::Http2).await;
    let (mut two, hello) = one.sibling(&gateway).await;
    hello.expect(200);
    let (mut first, mut second) = (one.hold(LONG_S), two.hold(LONG_S));
    held(&gateway, 2).await;
    gateway.admin.raise("swarm").await;
    let (answer, other) = tokio::select! {
        answer = &mut first => (answer, second),
        answer = &mut second => (answer, first),
    };
    let offer = answer.expect("no panic").expect(200).json::<Answer>().offer.expect("an offer");
    held(&gateway, 1).await;
    // Nobody uses it. It expires, and somebody still wants the tunnel.
    let next = other.await.expect("no panic").expect(200).json::<Answer>().offer.expect("an offer");
    assert_ne!(next.id, offer.id);
}

#[tokio::test]
async fn newer_question_takes_the_place_of_the_older_and_a_second_instance_is_refused() {
    let gateway = Gateway::start().await;
    set_hold(&gateway, LONG_S).await;
    let edge = gateway.admin.create("shop").await;
    let mut caller = Caller::join(&gateway, &edge, Speech::Http1).await;
    let older = caller.hold(LONG_S);
    held(&gateway, 1).await;
    let (_, refused) = caller.sibling(&gateway).await;
    assert_eq!(refused.problem(409).code, "second-instance");
    let mut successor = caller.again(&gateway, Speech::Http2).await;
    let newer = successor.hold(LONG_S);
    let older = older.await.expect("no panic").expect(204);
    assert!(!is_applied(&older), "two machines made of one disk would take each other's place for ever");
    held(&gateway, 1).await;
    gateway.admin.raise("shop").await;
    newer.await.expect("no panic").expect(200);
}

#[tokio::test]
async fn who_is_let_go_of_is_answered_and_claims_nothing_by_it() {
    let gateway = Gateway::start().await;
    set_hold(&gateway, LONG_S).await;
    let edge = gateway.admin.create("shop").await;
    let mut caller = Caller::join(&gateway, &edge, Speech::Http2).await;
    let question = caller.hold(LONG_S);
    held(&gateway, 1).await;
    gateway.admin.dissociate("shop").await;
    assert!(!is_applied(&question.await.expect("no panic").expect(204)));
    assert!(!gateway.admin.edge("shop").await.bound, "it was freed for another one");
    caller.hello().await.expect(200);
    let question = caller.hold(LONG_S);
    held(&gateway, 1).await;
    gateway.admin.delete("shop").await;
    question.await.expect("no panic").expect(204);
    assert_eq!(caller.ask(vec![], Some(LONG_S)).await.problem(401).code, "unknown-key");
}

#[tokio::test]
async fn agent_whose_connection_breaks_is_not_held_and_goes_offline_in_time() {
    let gateway = Gateway::start().await;
    set_hold(&gateway, LONG_S).await;
    for speech in [Speech::Http1, Speech::Http2] {
        let name = if speech == Speech::Http1 { "one" } else { "two" };
        let edge = gateway.admin.create(name).await;
        let mut caller = Caller::join(&gateway, &edge, speech).await;
        let question = caller.hold(LONG_S);
        held(&gateway, 1).await;
        question.abort();
        caller.connection.abort();
        drop(caller);
        held(&gateway, 0).await;
        until(SOON, "three intervals later it is offline", async || {
            (gateway.admin.edge(name).await.status == EdgeStatus::Offline).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn gateway_that_drains_lets_go_of_those_who_are_held() {
    let mut gateway = Gateway::start().await;
    set_hold(&gateway, LONG_S).await;
    let (one, two) = (gateway.admin.create("one").await, gateway.admin.create("two").await);
    let mut http1 = Caller::join(&gateway, &one, Speech::Http1).await;
    let mut http2 = Caller::join(&gateway, &two, Speech::Http2).await;
    let questions = [http1.hold(LONG_S), http2.hold(LONG_S)];
    held(&gateway, 2).await;
    let before = Instant::now();
    assert!(gateway.stop().await.success());
    assert!(before.elapsed() < Duration::from_secs(10), "nobody had to be cut: {:?}", before.elapsed());
    for (question, closes) in questions.into_iter().zip([true, false]) {
        let answer = question.await.expect("no panic").expect(204);
        assert!(!is_applied(&answer));
        assert_eq!(answer.headers.get(CONNECTION).is_some_and(|value| value == "close"), closes);
    }
}
