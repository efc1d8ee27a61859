//! A gateway that has no file descriptor left: nobody new gets in, what is open goes on and is written down, the log says
//! it once, and whoever waited gets in when there is room again.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Method;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use shared::wire::admin::Edge;
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::http::Http;
use tests::site::{EDGE, Site};
use tests::stranger::Stranger;
use tests::wait::{SOON, until};

/// Left when the limit is set; all of them are strangers' a moment later.
const LEFT: usize = 6;
/// Looks at an agent's check-ins while nothing can be accepted; each is about a second after the one before.
const CHECK_INS: usize = 4;
const NOT_ACCEPTED: &str = "no connections can be accepted";
const ACCEPTED: &str = "connections are accepted again";

/// A connection to the API that was made in time.
struct Kept {
    http: Http,
    sender: http1::SendRequest<Empty<Bytes>>,
}

impl Kept {
    async fn to(http: &Http) -> Self {
        let io = TokioIo::new(http.connect().await.expect("it listens"));
        let (sender, connection) = http1::handshake(io).await.expect("it speaks HTTP");
        tokio::spawn(connection);
        Self { http: http.clone(), sender }
    }

    /// What is known of the edge.
    async fn edge(&mut self) -> Edge {
        let path = format!("/api/v1/edges/{EDGE}");
        let request = self.http.request(Method::GET, &path).body(Empty::new()).expect("visible ASCII");
        let answer = self.sender.send_request(request).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("a whole answer").to_bytes();
        serde_json::from_slice(&body).expect("an edge")
    }

    /// A change, which goes to the disk.
    async fn change(&mut self) -> u16 {
        let path = format!("/api/v1/edges/{EDGE}/dissociate");
        let request = self.http.request(Method::POST, &path).body(Empty::new()).expect("visible ASCII");
        let answer = self.sender.send_request(request).await.expect("an answer");
        let status = answer.status().as_u16();
        answer.into_body().collect().await.expect("a whole answer");
        status
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_without_descriptors_goes_on_with_what_it_has_and_recovers() {
    let echo = Tcp::echo().await;
    let mut site = Site::with("echo", echo.address).await;
    let listen = site.listen("echo").await;
    let mut stream = listen.connect().await;
    assert_echo(&mut stream, b"before").await;
    let mut kept = Kept::to(site.http()).await;
    let mut seen = kept.edge().await.last_seen;

    let open = site.gateway.process().descriptors();
    site.gateway.limit_descriptors(open + LEFT);
    let mut strangers = Vec::new();
    for number in 0..2 * LEFT {
        let from = Stranger::at(50 + u8::try_from(number).expect("few"));
        strangers.push(from.connect(site.gateway.ssh()).await.expect("the kernel takes it in"));
    }
    site.gateway.log().wait_for(NOT_ACCEPTED, SOON).await;
    let waiting = tokio::spawn({
        let http = site.http().clone();
        async move { http.get("/api/v1/settings").await }
    });
    for _ in 0..CHECK_INS {
        assert_echo(&mut stream, b"meanwhile").await;
        let next = until(SOON, "the agent checks in", async || {
            let next = kept.edge().await.last_seen;
            (next != seen).then_some(next)
        });
        seen = next.await;
    }
    assert!(!waiting.is_finished(), "nobody new gets in");
    assert!(site.gateway.log().count(NOT_ACCEPTED) <= 3, "once for each port is enough");

    drop(strangers);
    waiting.await.expect("no panic").expect("it got in").expect(200);
    site.gateway.log().wait_for(ACCEPTED, SOON).await;
    assert_echo(&mut listen.connect().await, b"a new one").await;
    assert_eq!(kept.change().await, 204);
}
