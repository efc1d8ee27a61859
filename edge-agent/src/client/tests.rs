use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Mutex;

use http::{HeaderMap, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use shared::fingerprint::{HostKeyFingerprint, TlsFingerprint};
use shared::id::{EdgeId, EdgeKey, InstanceId};
use shared::wire::check_in::{Authorization, INSTANCE_HEADER, MAX_BODY, PATH, PROTOCOL_VERSION, TunnelState};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::*;

mod held;
mod wire;

/// A request as the fake gateway saw it.
#[derive(Clone, Debug)]
struct Seen {
    connection: usize,
    version: Version,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Seen {
    fn check_in(&self) -> CheckIn {
        if self.body.is_empty() {
            CheckIn::default()
        } else {
            serde_json::from_slice(&self.body).expect("a check-in")
        }
    }
}

/// What the fake gateway does with a question.
#[derive(Debug)]
enum Act {
    /// Answers after some time.
    Answer(Duration, Response<Full<Bytes>>),
    /// Answers after some time, and takes no other question on this connection.
    Goodbye(Duration, Response<Full<Bytes>>),
    /// Breaks the connection after some time.
    Break(Duration),
    /// Says nothing, ever.
    Silence,
}

type Script = Arc<Mutex<VecDeque<Act>>>;

/// A gateway that follows a script, question by question, and has nothing to say after its end.
struct FakeGateway {
    address: HostPort,
    pins: Vec<TlsFingerprint>,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Script,
    /// Changing it closes every connection.
    generation: watch::Sender<()>,
}

impl FakeGateway {
    /// Without TLS.
    async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With TLS, and these protocols for ALPN.
    async fn start_tls(alpn: &[&str]) -> Self {
        Self::start_with(Some(alpn)).await
    }

    async fn start_with(alpn: Option<&[&str]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string().parse().expect("an address");
        let (seen, script) = (Arc::new(Mutex::new(Vec::new())), Script::default());
        let (generation, mut changed) = watch::channel(());
        let (kept_seen, kept_script) = (Arc::clone(&seen), Arc::clone(&script));
        let (acceptor, pins) = match alpn.map(acceptor) {
            Some((acceptor, pin)) => (Some(acceptor), vec![pin]),
            None => (None, vec![]),
        };
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (seen, script) = (Arc::clone(&kept_seen), Arc::clone(&kept_script));
                changed.mark_unchanged();
                let (mut changed, acceptor) = (changed.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let serving = async {
                        match acceptor {
                            None => serve(stream, connection, &seen, &script).await,
                            Some(acceptor) => {
                                let Ok(stream) = acceptor.accept(stream).await else { return };
                                serve(stream, connection, &seen, &script).await;
                            }
                        }
                    };
                    tokio::select! {
                        () = serving => {}
                        _ = changed.changed() => {}
                    }
                });
            }
        });
        Self { address, pins, seen, script, generation }
    }

    fn will(&self, act: Act) {
        self.script.lock().expect("no panic").push_back(act);
    }

    fn will_answer(&self, status: u16, headers: &[(&'static str, &'static str)], body: impl Into<Bytes>) {
        self.will(Act::Answer(Duration::ZERO, response(status, headers, body)));
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    fn client(&self) -> Client {
        let scheme = if self.pins.is_empty() { "http" } else { "https" };
        let url = format!("{scheme}://{}", self.address);
        Client::new(endpoint(&url, self.pins.clone()).expect("a client"))
    }
}

fn acceptor(alpn: &[&str]) -> (TlsAcceptor, TlsFingerprint) {
    let made = rcgen::generate_simple_self_signed(["gate.test".to_owned()]).expect("a certificate");
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a matching key");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    (TlsAcceptor::from(Arc::new(config)), tls::fingerprint_of(made.cert.der()).expect("a key"))
}

fn response(
    status: u16,
    headers: &[(&'static str, &'static str)],
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        response.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    response
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    connection: usize,
    seen: &Mutex<Vec<Seen>>,
    script: &Mutex<VecDeque<Act>>,
) {
    let (breaks, goodbye) = (Notify::new(), Notify::new());
    // hyper's HTTP/2 server runs each request as a task of its own, which can borrow nothing: the questions come here.
    let (asked, mut questions) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Incoming>| {
        let (answer, answered) = tokio::sync::oneshot::channel();
        // Fails once the connection is broken, as the next line does.
        let _ = asked.send((request, answer));
        async move {
            match answered.await {
                Ok(response) => Ok::<_, Infallible>(response),
                Err(_) => std::future::pending().await,
            }
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().auto_date_header(false);
    builder.http2().auto_date_header(false);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut acts = futures_util::stream::FuturesUnordered::new();
    let mut unanswered = Vec::new();
    loop {
        tokio::select! {
            _ = serving.as_mut() => return,
            () = breaks.notified() => return,
            () = goodbye.notified() => serving.as_mut().graceful_shutdown(),
            Some((request, answer)) = questions.recv() => {
                let (head, body) = request.into_parts();
                let act = script.lock().expect("no panic").pop_front();
                let act = act.unwrap_or_else(|| Act::Answer(Duration::ZERO, response(204, &[], "")));
                let (breaks, goodbye) = (&breaks, &goodbye);
                acts.push(async move {
                    let body = body.collect().await.expect("a whole body").to_bytes();
                    let (path, version) = (head.uri.path().to_owned(), head.version);
                    let question = Seen { connection, version, path, headers: head.headers, body };
                    seen.lock().expect("no panic").push(question);
                    match act {
                        Act::Answer(after, response) => {
                            sleep(after).await;
                            // Whoever gave up its question does not listen.
                            let _ = answer.send(response);
                            None
                        }
                        Act::Goodbye(after, response) => {
                            sleep(after).await;
                            goodbye.notify_one();
                            let _ = answer.send(response);
                            None
                        }
                        Act::Break(after) => {
                            sleep(after).await;
                            breaks.notify_one();
                            Some(answer)
                        }
                        Act::Silence => Some(answer),
                    }
                });
            }
            Some(kept) = futures_util::StreamExt::next(&mut acts) => unanswered.extend(kept),
        }
    }
}

fn identity() -> Identity {
    let authorization =
        Authorization { edge_id: EdgeId::from_bytes([1; 16]), key: EdgeKey::from_bytes([2; 32]) };
    Identity { authorization, instance: InstanceId::from_bytes([3; 16]) }
}

fn endpoint(api_url: &str, tls_pins: Vec<TlsFingerprint>) -> Result<Endpoint, ClientError> {
    let token = JoinToken {
        api_url: api_url.into(),
        ssh: "127.0.0.1:1".into(),
        key: EdgeKey::from_bytes([2; 32]),
        host_keys: vec![HostKeyFingerprint::from_bytes([1; 32])],
        tls_pins,
    };
    Endpoint::new(&token, &identity(), None, Dialer::direct())
}

fn hello() -> Hello {
    Hello {
        agent: "0.1.0".into(),
        protocol: PROTOCOL_VERSION,
        hostname: "shop".into(),
        services: vec![],
        tunnel: TunnelState::Closed,
    }
}

/// Asked without a wish to be held.
fn question(failed: Option<FailedOffer>) -> Question {
    Question { hello: hello(), failed, pace: Pace::Usual, wait: None }
}

const NOTHING_NEW: Outcome = Outcome::Answered { interval: None, offer: None, holds: false, rerouted: false };

#[tokio::test]
async fn every_check_in_says_who_asks_and_only_the_first_of_a_connection_says_hello() {
    let gateway = FakeGateway::start().await;
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(client.check_in(&question(None)).await, NOTHING_NEW);
    }
    let seen = gateway.seen();
    let hellos: Vec<_> = seen.iter().map(|seen| seen.check_in().hello.is_some()).collect();
    assert_eq!(hellos, [true, false, false]);
    for seen in &seen {
        assert_eq!((seen.connection, seen.path.as_str()), (0, PATH));
        assert_eq!(seen.headers[header::AUTHORIZATION], identity().authorization.expose());
        assert_eq!(seen.headers[INSTANCE_HEADER], identity().instance.to_string());
        assert_eq!(seen.headers[header::HOST], gateway.address.to_string());
    }
}

#[tokio::test]
async fn gateway_that_wants_a_hello_gets_one_and_a_report_travels_along() {
    let gateway = FakeGateway::start().await;
    let mut client = gateway.client();
    gateway.will_answer(200, &[], r#"{"interval_s":7,"need":"none","hello_wanted":true}"#);
    let interval = Some(Duration::from_secs(7));
    assert_eq!(
        client.check_in(&question(None)).await,
        Outcome::Answered { interval, offer: None, holds: false, rerouted: false }
    );
    let failed = FailedOffer { offer: shared::id::OfferId::random(), reason: "no route".into() };
    client.check_in(&question(Some(failed.clone()))).await;
    client.check_in(&question(None)).await;
    let said: Vec<_> = gateway.seen()[1..].iter().map(Seen::check_in).collect();
    assert_eq!(said[0], CheckIn { hello: Some(hello()), failed: Some(failed) });
    assert_eq!(said[1], CheckIn::default());
}

#[tokio::test]
async fn connection_that_was_closed_meanwhile_is_made_anew_without_any_trouble() {
    let gateway = FakeGateway::start().await;
    let mut client = gateway.client();
    client.check_in(&question(None)).await;
    gateway.generation.send_replace(());
    // Whether it is noticed before the question or by its failure is chance; that is told, and is no trouble.
    let outcome = client.check_in(&question(None)).await;
    assert!(matches!(outcome, Outcome::Answered { interval: None, offer: None, .. }), "{outcome:?}");
    let seen = gateway.seen();
    assert_eq!(
        (seen[1].connection, seen[1].check_in().hello.is_some()),
        (1, true),
        "a new one says hello again"
    );
}

#[tokio::test]
async fn offer_comes_through_only_when_the_gateway_needs_a_tunnel() {
    let gateway = FakeGateway::start().await;
    let mut client = gateway.client();
    let offer = r#""offer":{"id":"6fa1d3a0-9c3e-4b62-8b0f-0d7b0a2a4d11","ssh":"g:8000","credentials":"x","expires_in_s":30}"#;
    gateway.will_answer(200, &[], format!(r#"{{"interval_s":0,"need":"tunnel",{offer}}}"#));
    let Outcome::Answered { interval, offer: Some(received), .. } = client.check_in(&question(None)).await
    else {
        panic!("an offer");
    };
    assert_eq!(interval, Some(Duration::from_secs(1)), "an interval below the least is taken as the least");
    assert_eq!(received.ssh, "g:8000");
    gateway.will_answer(200, &[], format!(r#"{{"interval_s":5,"need":"none",{offer}}}"#));
    assert!(matches!(client.check_in(&question(None)).await, Outcome::Answered { offer: None, .. }));
}

#[tokio::test]
async fn refusals_are_told_from_trouble_and_carry_the_gateways_words() {
    let gateway = FakeGateway::start().await;
    let mut client = gateway.client();
    let problem = r#"{"type":"about:blank#x","title":"t","status":401,"code":"x-code","detail":"do this"}"#;
    for (status, kind) in [
        (401, RefusalKind::UnknownKey),
        (403, RefusalKind::BoundToAnother),
        (409, RefusalKind::SecondInstance),
        (426, RefusalKind::Protocol),
    ] {
        gateway.will_answer(status, &[], problem);
        let Outcome::Refused(refusal) = client.check_in(&question(None)).await else { panic!("{status}") };
        assert_eq!(refusal.kind, kind);
        assert!(
            refusal.detail.contains("do this") && refusal.detail.contains("x-code"),
            "{}",
            refusal.detail
        );
    }
    for (status, header, retry_after) in [(429, "7", Some(7)), (503, "soon", None), (302, "1", Some(1))] {
        gateway.will_answer(status, &[("retry-after", header)], "<html>");
        let Outcome::Trouble { reason, retry_after: said, reached: true } =
            client.check_in(&question(None)).await
        else {
            panic!("{status}");
        };
        assert_eq!(said, retry_after.map(Duration::from_secs));
        assert!(reason.contains(&status.to_string()), "{reason}");
    }
    assert_eq!(client.check_in(&question(None)).await, NOTHING_NEW, "the connection still serves");
}

#[tokio::test]
async fn answer_that_is_too_long_or_none_is_trouble() {
    let gateway = FakeGateway::start().await;
    let mut client = gateway.client();
    for body in ["x".repeat(MAX_BODY + 1), "{}".into()] {
        gateway.will_answer(200, &[], body);
        assert!(matches!(client.check_in(&question(None)).await, Outcome::Trouble { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn gateway_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let silent = tokio::spawn(async move {
        let kept = listener.accept().await;
        std::future::pending::<()>().await;
        drop(kept);
    });
    let mut client = Client::new(endpoint(&format!("http://{address}"), vec![]).expect("a client"));
    let started = tokio::time::Instant::now();
    let Outcome::Trouble { reason, .. } = client.check_in(&question(None)).await else { panic!("no answer") };
    assert!(reason.contains("did not answer"), "{reason}");
    assert!(started.elapsed() >= ANSWER_TIMEOUT && started.elapsed() < ANSWER_TIMEOUT * 2);
    silent.abort();
}

#[tokio::test]
async fn gateway_that_is_away_is_trouble() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let mut client = Client::new(endpoint(&format!("http://{gone}"), vec![]).expect("a client"));
    let outcome = client.check_in(&question(None)).await;
    assert!(matches!(outcome, Outcome::Trouble { reached: true, .. }), "its machine refuses: {outcome:?}");
}

#[tokio::test]
async fn wrong_tls_pin_is_a_refusal_that_names_both_keys() {
    let (acceptor, shown) = acceptor(&["h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        acceptor.accept(stream).await.map(drop)
    });
    let pin = TlsFingerprint::from_bytes([9; 32]);
    let mut client = Client::new(endpoint(&format!("https://{address}"), vec![pin]).expect("a client"));
    let Outcome::Refused(refusal) = client.check_in(&question(None)).await else { panic!("a wrong key") };
    assert_eq!(refusal.kind, RefusalKind::TlsPin);
    assert!(
        refusal.detail.contains(&shown.to_string()) && refusal.detail.contains(&pin.to_string()),
        "{}",
        refusal.detail
    );
    assert!(server.await.expect("no panic").is_err());
}

#[tokio::test]
async fn snapshot_goes_out_compressed_on_a_connection_of_its_own() {
    let gateway = FakeGateway::start().await;
    let mut client = gateway.client();
    client.check_in(&question(None)).await;
    assert_eq!(client.endpoint.put_snapshot(Bytes::from_static(&[1, 2, 3])).await, Sent::Stored);
    let seen = &gateway.seen()[1];
    assert_eq!((seen.connection, seen.path.as_str(), &seen.body[..]), (1, SNAPSHOT_PATH, &[1, 2, 3][..]));
    assert_eq!(seen.headers[header::CONTENT_ENCODING], "gzip");
    gateway.will_answer(413, &[], "");
    let Sent::Refused { reason } = client.endpoint.put_snapshot(Bytes::new()).await else { panic!("a 413") };
    assert!(reason.contains("413"), "{reason}");
}

#[tokio::test]
async fn snapshot_that_finds_no_place_or_no_gateway_can_be_sent_again() {
    let gateway = FakeGateway::start().await;
    let client = gateway.client();
    gateway.will_answer(503, &[("retry-after", "7")], "");
    let sent = client.endpoint.put_snapshot(Bytes::new()).await;
    let Sent::Failed { retry_after, .. } = &sent else { panic!("{sent:?}") };
    assert_eq!(*retry_after, Some(Duration::from_secs(7)));
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let client = Client::new(endpoint(&format!("http://{gone}"), vec![]).expect("a client"));
    let sent = client.endpoint.put_snapshot(Bytes::new()).await;
    assert!(matches!(sent, Sent::Failed { retry_after: None, .. }), "{sent:?}");
}

#[test]
fn api_url_is_scheme_host_and_port_only() {
    for (url, address) in [
        ("http://gate.test", "gate.test:80"),
        ("http://gate.test:9000/", "gate.test:9000"),
        ("http://[::1]:9000", "[::1]:9000"),
    ] {
        assert_eq!(endpoint(url, vec![]).expect("valid").address().to_string(), address);
    }
    let pin = TlsFingerprint::from_bytes([9; 32]);
    assert_eq!(endpoint("https://gate.test", vec![pin]).expect("valid").address().port, 443);
    for bad in
        ["gate.test:9000", "ftp://gate.test", "http://gate.test/path", "http://me@gate.test", "http://"]
    {
        assert!(matches!(endpoint(bad, vec![]), Err(ClientError::ApiUrl(_))), "{bad}");
    }
}
