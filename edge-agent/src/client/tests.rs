use std::collections::VecDeque;
use std::sync::Mutex;

use hyper::service::service_fn;
use shared::fingerprint::{HostKeyFingerprint, TlsFingerprint};
use shared::id::{EdgeId, EdgeKey, InstanceId};
use shared::wire::check_in::{Authorization, PROTOCOL_VERSION, TunnelState};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;

/// A request as the fake gateway saw it.
#[derive(Clone, Debug)]
struct Seen {
    connection: usize,
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

type Script = Arc<Mutex<VecDeque<Response<Full<Bytes>>>>>;

/// A gateway that gives the answers of a script, one after the other.
struct FakeGateway {
    address: HostPort,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Script,
    /// Changing it closes every connection.
    generation: watch::Sender<()>,
}

impl FakeGateway {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string().parse().expect("an address");
        let (seen, script) = (Arc::new(Mutex::new(Vec::new())), Script::default());
        let (generation, mut changed) = watch::channel(());
        let (kept_seen, kept_script) = (Arc::clone(&seen), Arc::clone(&script));
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (seen, script) = (Arc::clone(&kept_seen), Arc::clone(&kept_script));
                changed.mark_unchanged();
                let mut changed = changed.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| respond(connection, request, &seen, &script));
                    let serving = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    tokio::select! {
                        _ = serving => {}
                        _ = changed.changed() => {}
                    }
                });
            }
        });
        Self { address, seen, script, generation }
    }

    fn will_answer(&self, status: u16, headers: &[(&'static str, &'static str)], body: impl Into<Bytes>) {
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        for (name, value) in headers {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        self.script.lock().expect("no panic").push_back(response);
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    fn client(&self) -> Client {
        Client::new(endpoint(&format!("http://{}", self.address), vec![]).expect("a client"))
    }
}

async fn respond(
    connection: usize,
    request: Request<Incoming>,
    seen: &Mutex<Vec<Seen>>,
    script: &Mutex<VecDeque<Response<Full<Bytes>>>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = head.uri.to_string();
    seen.lock().expect("no panic").push(Seen { connection, path, headers: head.headers, body });
    Ok(script.lock().expect("no panic").pop_front().unwrap_or_else(|| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }))
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

const NOTHING_NEW: Outcome = Outcome::Answered { interval: None, offer: None, rerouted: false };

#[tokio::test]
async fn every_check_in_says_who_asks_and_only_the_first_of_a_connection_says_hello() {
    let gateway = FakeGateway::start().await;
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(client.check_in(hello(), None, Pace::Usual).await, NOTHING_NEW);
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
        client.check_in(hello(), None, Pace::Usual).await,
        Outcome::Answered { interval, offer: None, rerouted: false }
    );
    let failed = FailedOffer { offer: shared::id::OfferId::random(), reason: "no route".into() };
    client.check_in(hello(), Some(failed.clone()), Pace::Usual).await;
    client.check_in(hello(), None, Pace::Usual).await;
    let said: Vec<_> = gateway.seen()[1..].iter().map(Seen::check_in).collect();
    assert_eq!(said[0], CheckIn { hello: Some(hello()), failed: Some(failed) });
    assert_eq!(said[1], CheckIn::default());
}

#[tokio::test]
async fn connection_that_was_closed_meanwhile_is_made_anew_without_any_trouble() {
    let gateway = FakeGateway::start().await;
    let mut client = gateway.client();
    client.check_in(hello(), None, Pace::Usual).await;
    gateway.generation.send_replace(());
    // Whether it is noticed before the question or by its failure is chance; that is told, and is no trouble.
    let outcome = client.check_in(hello(), None, Pace::Usual).await;
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
    let Outcome::Answered { interval, offer: Some(received), .. } =
        client.check_in(hello(), None, Pace::Usual).await
    else {
        panic!("an offer");
    };
    assert_eq!(interval, Some(Duration::from_secs(1)), "an interval below the least is taken as the least");
    assert_eq!(received.ssh, "g:8000");
    gateway.will_answer(200, &[], format!(r#"{{"interval_s":5,"need":"none",{offer}}}"#));
    assert!(matches!(
        client.check_in(hello(), None, Pace::Usual).await,
        Outcome::Answered { offer: None, .. }
    ));
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
        let Outcome::Refused(refusal) = client.check_in(hello(), None, Pace::Usual).await else {
            panic!("{status}")
        };
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
            client.check_in(hello(), None, Pace::Usual).await
        else {
            panic!("{status}");
        };
        assert_eq!(said, retry_after.map(Duration::from_secs));
        assert!(reason.contains(&status.to_string()), "{reason}");
    }
    assert_eq!(client.check_in(hello(), None, Pace::Usual).await, NOTHING_NEW, "the connection still serves");
}

#[tokio::test]
async fn answer_that_is_too_long_or_none_is_trouble() {
    let gateway = FakeGateway::start().await;
    let mut client = gateway.client();
    for body in ["x".repeat(MAX_BODY + 1), "{}".into()] {
        gateway.will_answer(200, &[], body);
        assert!(matches!(client.check_in(hello(), None, Pace::Usual).await, Outcome::Trouble { .. }));
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
    let Outcome::Trouble { reason, .. } = client.check_in(hello(), None, Pace::Usual).await else {
        panic!("no answer")
    };
    assert!(reason.contains("did not answer"), "{reason}");
    assert!(started.elapsed() >= ANSWER_TIMEOUT && started.elapsed() < ANSWER_TIMEOUT * 2);
    silent.abort();
}

#[tokio::test]
async fn gateway_that_is_away_is_trouble() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let mut client = Client::new(endpoint(&format!("http://{gone}"), vec![]).expect("a client"));
    let outcome = client.check_in(hello(), None, Pace::Usual).await;
    assert!(matches!(outcome, Outcome::Trouble { reached: true, .. }), "its machine refuses: {outcome:?}");
}

#[tokio::test]
async fn wrong_tls_pin_is_a_refusal_that_names_both_keys() {
    let made = rcgen::generate_simple_self_signed(["gate.test".to_owned()]).expect("a certificate");
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a matching key");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await.map(drop)
    });
    let pin = TlsFingerprint::from_bytes([9; 32]);
    let mut client = Client::new(endpoint(&format!("https://{address}"), vec![pin]).expect("a client"));
    let Outcome::Refused(refusal) = client.check_in(hello(), None, Pace::Usual).await else {
        panic!("a wrong key")
    };
    assert_eq!(refusal.kind, RefusalKind::TlsPin);
    let shown = tls::fingerprint_of(made.cert.der()).expect("a key").to_string();
    assert!(
        refusal.detail.contains(&shown) && refusal.detail.contains(&pin.to_string()),
        "{}",
        refusal.detail
    );
    assert!(server.await.expect("no panic").is_err());
}

#[tokio::test]
async fn snapshot_goes_out_compressed_on_a_connection_of_its_own() {
    let gateway = FakeGateway::start().await;
    let mut client = gateway.client();
    client.check_in(hello(), None, Pace::Usual).await;
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
