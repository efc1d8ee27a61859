use std::sync::Mutex;

use axum::Extension;
use axum::extract::Request as AxumRequest;
use axum::routing::get;
use rustls_pki_types::ServerName;
use shared::tunnel::carry::Local as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;
use crate::config::{Config, Options};
use crate::data_dir::DataDir;
use crate::identity::Identity;

struct Gateway {
    address: SocketAddr,
    identity: Identity,
    stop: Stop,
    serving: JoinHandle<()>,
    audit: Audit,
    folder: tempfile::TempDir,
    _tls: watch::Sender<Arc<rustls::ServerConfig>>,
}

async fn start(plain_http: PlainHttp, max_connections: usize, router: Router) -> Gateway {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config::new(&Options::default()).expect("the defaults");
    let identity = Identity::load(&DataDir::open(folder.path()).expect("free"), &config).expect("made");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (sender, tls) = watch::channel(Arc::clone(&identity.tls));
    let stop = Stop::default();
    let proxy_headers = ProxyHeaders::default();
    let policy = Policy { plain_http, trusted_proxies: vec![], proxy_headers, max_connections };
    let audit = Audit::open(folder.path(), 1 << 20).expect("a log");
    let telemetry = Telemetry::default();
    let admission = Admission::new(MAX_CONNECTIONS, vec![], telemetry.clone());
    let budget = Budget::new(crate::budget::memory::Memory::new(1 << 30, 0), telemetry.clone());
    let rooms = Rooms { telemetry, admission, budget, audit: audit.clone() };
    let serving = tokio::spawn(serve(listener, policy, tls, router, rooms, stop.clone()));
    Gateway { address, identity, stop, serving, audit, folder, _tls: sender }
}

impl Gateway {
    async fn plain(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("it listens")
    }

    async fn tls(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        let config =
            shared::tls::client_config(&[self.identity.tls_fingerprint], None).expect("a pin needs no roots");
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(config).connect(name, self.plain().await).await.expect("a handshake")
    }
}

/// Says who asks; at `/` whoever asks is somebody who belongs here.
fn who() -> Router {
    let said = |peer: Peer| format!("{} {}", peer.address.ip(), peer.secure);
    let known = move |Extension(peer): Extension<Peer>, Extension(caller): Extension<Caller>| async move {
        caller.welcome();
        said(peer)
    };
    let stranger = move |Extension(peer): Extension<Peer>| async move { said(peer) };
    Router::new().route("/", get(known)).route("/stranger", get(stranger))
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: gate\r\n\r\n";
const GET_AND_CLOSE: &[u8] = b"GET / HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n";

/// Sends one request and reads to the end of the connection.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    stream.write_all(GET_AND_CLOSE).await.expect("sent");
    rest(stream).await
}

async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an orderly end");
    answer
}

#[tokio::test]
async fn both_protocols_are_served_on_one_port() {
    let gateway = start(PlainHttp::Loopback, 10, who()).await;
    let answer = exchange(gateway.plain().await).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1 false"), "{answer}");
    let stream = gateway.tls().await;
    let group = stream.get_ref().1.negotiated_key_exchange_group().expect("a handshake was made");
    assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
    let answer = exchange(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1 true"), "{answer}");
}

#[tokio::test]
async fn plain_http_is_refused_with_a_problem_that_says_what_to_do() {
    let gateway = start(PlainHttp::Never, 10, who()).await;
    let answer = exchange(gateway.plain().await).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("plain-http-refused"), "{answer}");
    assert!(exchange(gateway.tls().await).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn plain_http_that_is_refused_is_recorded_and_a_flood_of_it_is_counted() {
    let gateway = start(PlainHttp::Never, 10, who()).await;
    for _ in 0..20 {
        exchange(gateway.plain().await).await;
    }
    gateway.audit.close().await;
    let log = gateway.folder.path().join("audit/00000001.jsonl");
    let log = std::fs::read_to_string(log).expect("a segment");
    let told: Vec<_> = log.lines().filter(|line| line.contains("\"action\":\"api.plain-http\"")).collect();
    assert_eq!(told.len(), 2, "the first one, and the sum: {log}");
    assert!(told.iter().all(|line| line.contains("\"code\":\"plain-http-refused\"")), "{log}");
    assert!(told[0].contains("\"from\":\"127.0.0.1:") && told[1].contains("\"count\":19"), "{log}");
}

#[test]
fn plain_http_is_for_this_machine_and_trusted_proxies() {
    let policy = |plain_http| Policy {
        plain_http,
        trusted_proxies: vec!["10.0.0.0/8".parse().expect("a network")],
        proxy_headers: ProxyHeaders::default(),
        max_connections: 1,
    };
    let peers = [
        "127.0.0.1:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "10.9.8.7:1",
        "[::ffff:10.0.0.1]:1",
        "192.0.2.1:1",
    ];
    for (plain_http, allowed) in [(PlainHttp::Any, 6), (PlainHttp::Loopback, 5), (PlainHttp::Never, 0)] {
        let policy = policy(plain_http);
        let count =
            peers.iter().filter(|peer| policy.allows_plain(peer.parse().expect("an address"))).count();
        assert_eq!(count, allowed, "{plain_http}");
    }
}

#[test]
fn only_the_proxys_own_word_about_a_client_counts() {
    let proxy = Peer { address: "10.0.0.1:5".parse().expect("an address"), secure: false };
    let mut headers = HeaderMap::new();
    assert_eq!(forwarded(proxy, &headers), proxy);
    headers.append("x-forwarded-for", "127.0.0.1".parse().expect("a value"));
    headers.append("x-forwarded-for", "127.0.0.2, 192.0.2.7".parse().expect("a value"));
    headers.append("x-forwarded-proto", "http,https".parse().expect("a value"));
    let client = forwarded(proxy, &headers);
    assert_eq!((client.address.ip().to_string().as_str(), client.secure), ("192.0.2.7", true));
    headers.append("x-forwarded-for", "unknown".parse().expect("a value"));
    assert_eq!(forwarded(proxy, &headers).address, proxy.address);
}

#[tokio::test(start_paused = true)]
async fn silent_and_trickling_connections_are_closed() {
    let gateway = start(PlainHttp::Loopback, 10, who()).await;
    let started = tokio::time::Instant::now();
    assert_eq!(rest(gateway.plain().await).await, "");
    assert!(started.elapsed() >= FIRST_BYTE_TIMEOUT);
    for beginning in [&b"GET / HTTP/1.1\r\nx: "[..], b"PRI * HT", &[TLS_HANDSHAKE, 3, 1]] {
        let mut stream = gateway.plain().await;
        stream.write_all(beginning).await.expect("sent");
        // The answer, if there is one, is hyper's or an alert; what counts is that the connection ends.
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer).await;
    }
    assert!(started.elapsed() < 6 * FIRST_REQUEST_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn idle_connection_outlives_the_time_for_its_first_request() {
    let gateway = start(PlainHttp::Loopback, 10, who()).await;
    let mut stream = gateway.plain().await;
    let started = tokio::time::Instant::now();
    stream.write_all(GET).await.expect("sent");
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(started.elapsed() >= KEEP_ALIVE_IDLE && started.elapsed() <= 3 * KEEP_ALIVE_IDLE);
}

#[tokio::test(start_paused = true)]
async fn idle_connection_of_a_stranger_is_closed_soon() {
    let gateway = start(PlainHttp::Loopback, 10, who()).await;
    let mut stream = gateway.plain().await;
    let started = tokio::time::Instant::now();
    stream.write_all(b"GET /stranger HTTP/1.1\r\nhost: gate\r\n\r\n").await.expect("sent");
    assert!(rest(stream).await.starts_with("HTTP/1.1 200"));
    assert!(started.elapsed() <= FIRST_REQUEST_TIMEOUT + 2 * STRANGER_IDLE);
}

#[tokio::test(start_paused = true)]
async fn trickling_second_request_gets_no_more_time_than_silence() {
    let gateway = start(PlainHttp::Loopback, 10, who()).await;
    let mut stream = gateway.plain().await;
    let started = tokio::time::Instant::now();
    stream.write_all(&[GET, b"GET / HT"].concat()).await.expect("sent");
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1 false"), "{answer}");
    assert!(started.elapsed() <= 3 * KEEP_ALIVE_IDLE);
}

#[tokio::test]
async fn stop_closes_idle_connections_and_lets_requests_finish() {
    let (entered, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (entered, finish) = (Arc::clone(&entered), Arc::clone(&finish));
        move || async move {
            entered.notify_one();
            finish.notified().await;
            "done"
        }
    };
    let gateway = start(PlainHttp::Loopback, 10, who().route("/slow", get(slow))).await;
    let mut idle = gateway.plain().await;
    idle.write_all(GET).await.expect("sent");
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.expect("answered");
    let silent = gateway.plain().await;
    let mut busy = gateway.plain().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: gate\r\n\r\n").await.expect("sent");
    entered.notified().await;
    gateway.stop.graceful.cancel();
    rest(idle).await;
    assert_eq!(rest(silent).await, "");
    assert!(!gateway.serving.is_finished());
    finish.notify_one();
    assert!(rest(busy).await.ends_with("done"));
    gateway.serving.await.expect("no panic");
    TcpStream::connect(gateway.address).await.expect_err("nobody listens");
}

#[tokio::test]
async fn stop_now_cuts_what_does_not_finish() {
    let entered = Arc::new(Notify::new());
    let stuck = {
        let entered = Arc::clone(&entered);
        move || async move {
            entered.notify_one();
            std::future::pending::<()>().await;
        }
    };
    let gateway = start(PlainHttp::Loopback, 10, Router::new().route("/", get(stuck))).await;
    let mut stream = gateway.plain().await;
    stream.write_all(GET).await.expect("sent");
    entered.notified().await;
    gateway.stop.graceful.cancel();
    gateway.stop.now.cancel();
    gateway.serving.await.expect("no panic");
    assert_eq!(rest(stream).await, "");
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_for_a_place() {
    let gateway = start(PlainHttp::Loopback, 1, who()).await;
    let mut first = gateway.plain().await;
    first.write_all(GET).await.expect("sent");
    let mut beginning = [0; 12];
    first.read_exact(&mut beginning).await.expect("answered");
    let second = tokio::spawn(exchange(gateway.plain().await));
    first.write_all(GET_AND_CLOSE).await.expect("the first one is served as before");
    assert!(!second.is_finished());
    rest(first).await;
    assert!(second.await.expect("no panic").starts_with("HTTP/1.1 200"));
}

/// A router whose only route upgrades and hands the connection out.
fn upgrading() -> (Router, oneshot::Receiver<(Connection, bytes::Bytes)>) {
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let upgrade = move |mut request: AxumRequest| async move {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let upgraded = upgraded.await.expect("an upgrade");
            let taken = Connection::from_upgraded(upgraded).expect("a connection of the listener");
            let sender = sender.lock().expect("no panic").take().expect("one upgrade in a test");
            sender.send(taken).expect("the test waits");
        });
        (http::StatusCode::SWITCHING_PROTOCOLS, [("connection", "upgrade"), ("upgrade", "tcp")])
    };
    (Router::new().route("/", get(upgrade)), receiver)
}

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nhost: gate\r\nconnection: upgrade\r\nupgrade: tcp\r\n\r\nearly";

async fn upgrade(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.write_all(UPGRADE).await.expect("sent");
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
}

#[tokio::test]
async fn upgraded_stream_gives_the_connection_back_with_what_was_read_early() {
    let (router, taken) = upgrading();
    let gateway = start(PlainHttp::Loopback, 10, router).await;
    let mut client = gateway.tls().await;
    upgrade(&mut client).await;
    let (mut connection, early) = taken.await.expect("upgraded");
    let mut received = early.to_vec();
    while received.len() < 5 {
        received.push(connection.read_u8().await.expect("more"));
    }
    assert_eq!(received, b"early");
    // One direction ends in order, the other goes on.
    client.shutdown().await.expect("sent");
    assert_eq!(connection.read(&mut [0; 1]).await.expect("an orderly end"), 0);
    connection.write_all(b"still here").await.expect("sent");
    connection.shutdown().await.expect("sent");
    assert_eq!(rest(client).await, "still here");
}

#[tokio::test]
async fn reset_is_a_reset_for_the_peer_with_and_without_tls() {
    for secure in [false, true] {
        let (router, taken) = upgrading();
        let gateway = start(PlainHttp::Loopback, 10, router).await;
        let error = if secure {
            let mut client = gateway.tls().await;
            upgrade(&mut client).await;
            let mut connection = taken.await.expect("upgraded").0;
            connection.reset();
            drop(connection);
            client.read(&mut [0; 1]).await.expect_err("a reset")
        } else {
            let mut client = gateway.plain().await;
            upgrade(&mut client).await;
            let mut connection = taken.await.expect("upgraded").0;
            connection.reset();
            drop(connection);
            client.read(&mut [0; 1]).await.expect_err("a reset")
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "secure: {secure}");
    }
}
