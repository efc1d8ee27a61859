//! The proxy between a raw client and a raw service: what each writes, the other must see.

use std::convert::Infallible;
use std::time::Duration;

use hyper::service::service_fn;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::timeout;

use super::*;

/// Room in each pipe: small, so that whatever is buffered beyond it shows.
const PIPE: usize = 4 * 1024;
const PATH: &str = "/api/v1/edges/shop-17/services/web/proxy";

/// A client's and a service's raw ends, with an HTTP server and the proxy between them.
struct Bench {
    client: DuplexStream,
    service: DuplexStream,
}

fn forwarded() -> Forwarded {
    Forwarded {
        peer: Peer { address: ([192, 0, 2, 1], 5).into(), secure: true },
        prefix: Some(HeaderValue::from_static("/prefix")),
        host: HeaderValue::from_static("127.0.0.1:8080"),
        way: Way::Api,
    }
}

impl Bench {
    fn new() -> Self {
        let (client, server) = duplex(PIPE);
        let (io, service) = duplex(PIPE);
        let io = std::sync::Mutex::new(Some(io));
        let answer =
            service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let io = io.lock().expect("nothing panics under it").take();
                async move {
                    let target = Target::of(request.uri()).expect("the tests' paths are right");
                    let io = io.expect("one request");
                    let answer = forward(request.map(Body::new), target.upstream, &forwarded(), io).await;
                    Ok::<_, Infallible>(answer.unwrap_or_else(|error| {
                        (StatusCode::BAD_GATEWAY, format!("{error}")).into_response()
                    }))
                }
            });
        tokio::spawn(async move {
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), answer);
            // Some tests cut it.
            let _ = connection.with_upgrades().await;
        });
        Self { client, service }
    }

    /// The client writes `text`, its lines ended by CR LF.
    async fn ask(&mut self, text: &str) {
        write(&mut self.client, text).await;
    }

    /// The service writes `text`, its lines ended by CR LF.
    async fn answer(&mut self, text: &str) {
        write(&mut self.service, text).await;
    }

    /// What reaches the service, up to and including `end`.
    async fn asked(&mut self, end: &str) -> String {
        read_until(&mut self.service, end).await
    }

    /// What reaches the client, up to and including `end`.
    async fn answered(&mut self, end: &str) -> String {
        read_until(&mut self.client, end).await
    }
}

async fn write(io: &mut DuplexStream, text: &str) {
    io.write_all(text.replace('\n', "\r\n").as_bytes()).await.expect("the other end is there");
}

async fn read_until(io: &mut DuplexStream, end: &str) -> String {
    let end = end.replace('\n', "\r\n");
    let mut seen = String::new();
    while !seen.ends_with(&end) {
        let byte =
            io.read_u8().await.unwrap_or_else(|error| panic!("{error} before {end:?}, after {seen:?}"));
        seen.push(byte.into());
    }
    seen.replace("\r\n", "\n")
}

/// Nothing comes, however long one waits.
async fn assert_silent(io: &mut DuplexStream) {
    let waited = timeout(Duration::from_secs(3600), io.read_u8()).await;
    assert!(waited.is_err(), "{waited:?}");
}

#[tokio::test]
async fn path_query_and_bodies_pass_byte_for_byte() {
    let mut bench = Bench::new();
    bench
        .ask(&format!(
            "POST {PATH}//a%2Fb/../%ff;x?q=%20+&&r HTTP/1.1\nhost: gate\nx-a: 1\ncontent-length: 4\n\nping"
        ))
        .await;
    let asked = bench.asked("\n\n").await;
    assert!(asked.starts_with("POST //a%2Fb/../%ff;x?q=%20+&&r HTTP/1.1\n"), "{asked}");
    for line in
        ["\nhost: 127.0.0.1:8080\n", "\nx-a: 1\n", "\ncontent-length: 4\n", "\nx-forwarded-host: gate\n"]
    {
        assert!(asked.contains(line), "{line} in {asked}");
    }
    assert_eq!(bench.asked("ping").await, "ping");
    bench.answer("HTTP/1.1 418 Teapot\nx-b: 2\nkeep-alive: 9\ncontent-length: 4\n\npong").await;
    let answered = bench.answered("pong").await;
    assert!(answered.starts_with("HTTP/1.1 418 "), "{answered}");
    assert!(answered.contains("\nx-b: 2\n") && !answered.contains("keep-alive: 9"), "{answered}");
}

#[tokio::test]
async fn the_gateways_token_is_not_in_what_a_service_sees_and_reflects() {
    let mut bench = Bench::new();
    bench.ask(&format!("TRACE {PATH}/ HTTP/1.1\nhost: gate\nauthorization: Bearer tga_secret\n\n")).await;
    let asked = bench.asked("\n\n").await;
    assert!(!asked.contains("secret"), "{asked}");
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    let mut bench = Bench::new();
    bench.ask(&format!("POST {PATH}/ HTTP/1.1\nhost: gate\ntransfer-encoding: chunked\n\n3\none\n")).await;
    bench.asked("3\none\n").await;
    bench
        .answer("HTTP/1.1 200 OK\ncontent-type: text/event-stream\ntransfer-encoding: chunked\n\n5\ndata1\n")
        .await;
    let answered = bench.answered("5\ndata1\n").await;
    assert!(answered.contains("transfer-encoding: chunked"), "{answered}");
    bench.ask("3\ntwo\n").await;
    assert_eq!(bench.asked("3\ntwo\n").await, "3\ntwo\n");
    bench.answer("5\ndata2\n").await;
    assert_eq!(bench.answered("5\ndata2\n").await, "5\ndata2\n");
    bench.ask("0\n\n").await;
    bench.answer("0\n\n").await;
    assert_eq!(bench.asked("0\n\n").await, "0\n\n");
    assert_eq!(bench.answered("0\n\n").await, "0\n\n");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let mut bench = Bench::new();
    bench
        .ask(&format!(
            "POST {PATH}/ HTTP/1.1\nhost: gate\nte: trailers\ntrailer: x-sum\ntransfer-encoding: chunked\n\n1\na\n0\nx-sum: 7\n\n"
        ))
        .await;
    let asked = bench.asked("x-sum: 7\n\n").await;
    assert!(asked.contains("\nte: trailers\n"), "{asked}");
    bench
        .answer("HTTP/1.1 200 OK\ntrailer: x-sum\ntransfer-encoding: chunked\n\n1\nb\n0\nx-sum: 8\n\n")
        .await;
    bench.answered("0\nx-sum: 8\n\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_stops_the_service() {
    let mut bench = Bench::new();
    bench.ask(&format!("GET {PATH}/ HTTP/1.1\nhost: gate\n\n")).await;
    bench.asked("\n\n").await;
    bench.answer("HTTP/1.1 200 OK\ncontent-length: 100000000\n\n").await;
    let mut written = 0;
    let stalled = async {
        loop {
            written += bench.service.write(&[b'x'; 1024]).await.expect("the client is there");
        }
    };
    let stalled: std::result::Result<Infallible, _> = timeout(Duration::from_secs(60), stalled).await;
    assert!(stalled.is_err());
    assert!(written < 2 * 1024 * 1024, "{written} bytes were taken for nobody");
}

#[tokio::test]
async fn the_answer_to_head_keeps_its_length() {
    let mut bench = Bench::new();
    bench.ask(&format!("HEAD {PATH}/ HTTP/1.1\nhost: gate\n\n")).await;
    bench.asked("\n\n").await;
    bench.answer("HTTP/1.1 200 OK\ncontent-length: 12345\n\n").await;
    let answered = bench.answered("\n\n").await;
    assert!(answered.contains("content-length: 12345\n"), "{answered}");
}

#[tokio::test(start_paused = true)]
async fn a_body_waits_for_the_services_100_and_so_does_the_client() {
    let mut bench = Bench::new();
    bench
        .ask(&format!("PUT {PATH}/ HTTP/1.1\nhost: gate\nexpect: 100-continue\ncontent-length: 4\n\n"))
        .await;
    let asked = bench.asked("\n\n").await;
    assert!(asked.contains("\nexpect: 100-continue\n"), "{asked}");
    let early = timeout(EXPECT_SHORT, bench.client.read_u8()).await;
    assert!(early.is_err(), "the client was told to go on before the service was asked");
    bench.answer("HTTP/1.1 100 Continue\n\n").await;
    bench.answered("HTTP/1.1 100 Continue\n\n").await;
    bench.ask("body").await;
    assert_eq!(bench.asked("body").await, "body");
    bench.answer("HTTP/1.1 201 Created\ncontent-length: 0\n\n").await;
    bench.answered("\n\n").await;
}

/// Less than the proxy's patience.
const EXPECT_SHORT: Duration = Duration::from_millis(500);

#[tokio::test(start_paused = true)]
async fn a_service_can_refuse_before_the_body_is_sent() {
    let mut bench = Bench::new();
    bench
        .ask(&format!("PUT {PATH}/ HTTP/1.1\nhost: gate\nexpect: 100-continue\ncontent-length: 4\n\n"))
        .await;
    bench.asked("\n\n").await;
    bench.answer("HTTP/1.1 403 Forbidden\ncontent-length: 2\n\nno").await;
    let answered = bench.answered("no").await;
    assert!(answered.starts_with("HTTP/1.1 403 "), "{answered}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_knows_no_100_gets_the_body_after_a_while() {
    let mut bench = Bench::new();
    bench
        .ask(&format!("PUT {PATH}/ HTTP/1.1\nhost: gate\nexpect: 100-continue\ncontent-length: 4\n\n"))
        .await;
    bench.asked("\n\n").await;
    bench.answered("HTTP/1.1 100 Continue\n\n").await;
    bench.ask("body").await;
    assert_eq!(bench.asked("body").await, "body");
}

#[tokio::test]
async fn an_upgrade_is_carried_with_each_direction_ending_on_its_own() {
    for token in ["websocket", "tcp"] {
        let mut bench = Bench::new();
        bench
            .ask(&format!("GET {PATH}/ws HTTP/1.1\nhost: gate\nconnection: Upgrade\nupgrade: {token}\n\n"))
            .await;
        let asked = bench.asked("\n\n").await;
        assert!(asked.contains("\nconnection: upgrade\n"), "{asked}");
        assert!(asked.contains(&format!("\nupgrade: {token}\n")), "{asked}");
        bench
            .answer(&format!(
                "HTTP/1.1 101 UPGRADED\nconnection: upgrade\nupgrade: {token}\nsec-websocket-accept: x\n\nhello"
            ))
            .await;
        let answered = bench.answered("hello").await;
        assert!(answered.starts_with("HTTP/1.1 101 "), "{answered}");
        for line in ["connection: upgrade\n", &format!("upgrade: {token}\n"), "sec-websocket-accept: x\n"] {
            assert!(answered.contains(line), "{line} in {answered}");
        }
        bench.ask("last words").await;
        bench.client.shutdown().await.expect("the proxy is there");
        let mut heard = String::new();
        bench.service.read_to_string(&mut heard).await.expect("text");
        assert_eq!(heard, "last words");
        bench.answer("and the answer").await;
        drop(bench.service);
        let mut heard = String::new();
        bench.client.read_to_string(&mut heard).await.expect("text");
        assert_eq!(heard, "and the answer");
    }
}

#[tokio::test]
async fn an_upgrade_with_a_body_works_as_docker_uses_it() {
    let mut bench = Bench::new();
    bench
        .ask(&format!(
            "POST {PATH}/exec/1/start HTTP/1.1\nhost: gate\nconnection: Upgrade\nupgrade: tcp\ncontent-length: 2\n\n{{}}"
        ))
        .await;
    bench.asked("{}").await;
    bench.answer("HTTP/1.1 101 UPGRADED\nconnection: Upgrade\nupgrade: tcp\n\nprompt").await;
    bench.answered("prompt").await;
    bench.ask("input").await;
    assert_eq!(bench.asked("input").await, "input");
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let mut bench = Bench::new();
    bench
        .ask(&format!("GET {PATH}/ HTTP/1.1\nhost: gate\nconnection: upgrade\nupgrade: websocket\n\n"))
        .await;
    bench.asked("\n\n").await;
    bench.answer("HTTP/1.1 403 Forbidden\ncontent-length: 2\n\nno").await;
    assert!(bench.answered("no").await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn what_is_no_usable_answer_is_said_to_be_none() {
    let many_headers = format!("HTTP/1.1 200 OK\n{}\n", "a: b\n".repeat(MAX_HEADERS + 1));
    let long_head = format!("HTTP/1.1 200 OK\na: {}\n\n", "x".repeat(MAX_HEAD));
    for (answer, said) in [
        ("SSH-2.0-OpenSSH_9.2\n", "not HTTP"),
        ("\0\x01\x02\x03 garbage\n\n", "not HTTP"),
        ("HTTP/1.1 200 OK\ncontent-length: x\n\n", "not HTTP"),
        ("", "closed the connection without an answer"),
        ("HTTP/1.1 200 OK\nx: ", "closed the connection without an answer"),
        ("HTTP/1.1 101 Surprise\nconnection: upgrade\nupgrade: x\n\n", "nobody asked for"),
        (&many_headers, "has more than 200 headers"),
        (&long_head, "has more than 200 headers"),
    ] {
        let mut bench = Bench::new();
        bench.ask(&format!("GET {PATH}/ HTTP/1.1\nhost: gate\nconnection: close\n\n")).await;
        bench.asked("\n\n").await;
        // The proxy may hang up before it has all of it.
        let _ = bench.service.write_all(answer.replace('\n', "\r\n").as_bytes()).await;
        bench.service.shutdown().await.expect("a pipe always ends");
        let mut answered = String::new();
        bench.client.read_to_string(&mut answered).await.expect("text");
        assert!(answered.starts_with("HTTP/1.1 502 "), "{answer:.40?}: {answered}");
        assert!(answered.contains(said), "{answer:.40?}: {answered}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_the_stream_with_it() {
    // Before the answer, in the middle of its body, and after an upgrade.
    for (answer, end) in [
        ("", ""),
        ("HTTP/1.1 200 OK\ncontent-length: 100\n\nsome", "some"),
        ("HTTP/1.1 101 Switch\nconnection: upgrade\nupgrade: x\n\nsome", "some"),
    ] {
        let mut bench = Bench::new();
        bench.ask(&format!("GET {PATH}/ HTTP/1.1\nhost: gate\nconnection: upgrade\nupgrade: x\n\n")).await;
        bench.asked("\n\n").await;
        bench.answer(answer).await;
        bench.answered(end).await;
        drop(bench.client);
        let mut rest = Vec::new();
        bench.service.read_to_end(&mut rest).await.expect("a pipe always ends");
        assert_eq!(rest, b"", "after {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_may_take_its_time() {
    let mut bench = Bench::new();
    bench.ask(&format!("GET {PATH}/ HTTP/1.1\nhost: gate\n\n")).await;
    bench.asked("\n\n").await;
    assert_silent(&mut bench.client).await;
    bench.answer("HTTP/1.1 200 OK\ncontent-length: 4\n\nlate").await;
    bench.answered("late").await;
}

#[test]
fn only_names_can_be_in_the_path() {
    for (path, code) in [
        ("/api/v1/edges/Shop/services/web/proxy/", Some(Code::InvalidRequest)),
        ("/api/v1/edges/shop/services/w%65b/proxy/", Some(Code::InvalidRequest)),
        ("/api/v1/edges/shop/services/web/proxy/edges/x/services/y/proxy/", None),
    ] {
        let target = Target::of(&path.parse().expect("a URI"));
        assert_eq!(target.as_ref().err().map(Problem::code), code, "{path}");
        if let Ok(target) = target {
            assert_eq!(target.upstream, "/edges/x/services/y/proxy/");
            let prefix = Target::prefix(&target.edge, &target.service);
            assert_eq!(prefix, "/api/v1/edges/shop/services/web/proxy");
        }
    }
}

#[tokio::test]
async fn a_path_without_its_slash_leads_to_the_one_with_it() {
    let request = Request::builder().uri(format!("{PATH}?a=b")).body(Body::empty()).expect("a request");
    let answer = add_slash(request).await.expect("a redirect");
    assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(answer.headers()[LOCATION], "/api/v1/edges/shop-17/services/web/proxy/?a=b");
}
