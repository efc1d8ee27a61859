//! The listener on port 9000: TLS and plain HTTP on one port, told apart by the first byte.
//!
//! The accept loop only accepts. Everything that waits for a peer happens in that connection's own task, under a cap
//! and named timeouts. What a request means is the router's business.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::response::IntoResponse as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::HeaderMap;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use ipnet::IpNet;
use shared::tls::{HTTP_1_1, HTTP_2};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::audited::{Noted, refused_outside};
use super::check_in::line::{Answer, Desk, Line, Sender, dated};
use super::connection::Connection;
use super::peer::Peer;
use super::problem::{Code, Problem};
use crate::accept::Accepting;
use crate::admission::proxy_header::ProxyHeaders;
use crate::admission::{Admission, Caller, Failure, Port};
use crate::audit::Audit;
use crate::budget::Budget;
use crate::budget::memory::Use;
use crate::config::PlainHttp;
use crate::telemetry::{Telemetry, TransportLabel};

/// Connections at once, from accept to close, upgraded ones included, where the system allows so many open files: agents
/// that wait, each with some 30 KiB, so that their memory stays below 8 GiB. When full, new connections wait in the kernel's queue, which is bounded too: agents and
/// operators then see latency first and a time-out second, and each connection that never asks anything gives its
/// place back after [`FIRST_REQUEST_TIMEOUT`].
pub const MAX_CONNECTIONS: usize = 262_144;
/// From accept to the first byte. Ours and every browser speak first; ten seconds cover a lost SYN-ACK and two losses.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the first byte to the end of the TLS handshake: two round trips, and the gateway may be busy with thousands.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the handshake to the first whole request head. This is what stops a slow trickle of headers by strangers.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a request for this long is closed (after at most twice this). Longer than the usual check-in
/// interval, so that agents do not pay a handshake for each question.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(120);
/// The same while nobody has shown a good credential on it: a person reads a sign-in page, and a new handshake costs them
/// nothing that they notice.
const STRANGER_IDLE: Duration = Duration::from_secs(15);
/// Bytes of a request head over HTTP/1: cookies and a long URL fit, a flood does not.
const MAX_HEAD: usize = 64 * 1024;
/// The same for HTTP/2, where names and values are counted with 32 bytes for each field (RFC 9113, 6.5.2).
const MAX_HEADER_LIST: u32 = 64 * 1024;
/// Header fields of a request.
pub(super) const MAX_HEADERS: usize = 100;
/// Requests at once on one HTTP/2 connection: a page with many panels stays far below.
const MAX_CONCURRENT_STREAMS: u32 = 128;
/// TCP keep-alive finds a peer that went away without a word, on upgraded streams above all: they hold an edge's tunnel
/// open. Rarer than the questions of an agent, so it costs those nothing; pings of HTTP/2 would cost an agent that is held
/// more than its questions do.
const TCP_KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const TCP_KEEPALIVE_PROBES: u32 = 4;
/// By what name the audit log has a request over plain HTTP that is not taken.
const PLAIN_HTTP: &str = "api.plain-http";
/// First byte of a TLS record that carries a handshake (RFC 8446, 5.1). No HTTP method begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// Whom the listener serves without TLS, and whose word it takes about a client.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Who may speak plain HTTP, besides trusted proxies.
    pub plain_http: PlainHttp,
    /// Proxies that may speak plain HTTP (unless it is switched off) and whose `x-forwarded-*` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Load balancers that begin each connection with a PROXY header.
    pub proxy_headers: ProxyHeaders,
    /// Connections at once; [`MAX_CONNECTIONS`] unless the system allows fewer open files.
    pub max_connections: usize,
}

impl Policy {
    fn is_trusted(&self, peer: SocketAddr) -> bool {
        let ip = peer.ip().to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&ip))
    }

    fn allows_plain(&self, peer: SocketAddr) -> bool {
        match self.plain_http {
            PlainHttp::Any => true,
            PlainHttp::Loopback => peer.ip().to_canonical().is_loopback() || self.is_trusted(peer),
            PlainHttp::Never => false,
        }
    }
}

/// What the listener works with.
#[derive(Clone, Debug)]
pub struct Rooms {
    /// Where it counts.
    pub telemetry: Telemetry,
    /// Who may be here before their login.
    pub admission: Admission,
    /// What there is for whoever may.
    pub budget: Budget,
    /// Where it records what it refuses.
    pub audit: Audit,
}

/// When the listener ends.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// No new connections from now on; idle ones are closed, requests in flight go on.
    pub graceful: CancellationToken,
    /// Cut what is left.
    pub now: CancellationToken,
}

/// Accepts and serves connections until `stop.graceful` is cancelled; returns when the last of them has ended or been
/// cut. Connections that were upgraded belong to whoever upgraded them and are not waited for. `tls` may change while
/// the listener runs: new connections get the latest.
pub async fn serve(
    listener: TcpListener,
    policy: Policy,
    tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    router: Router,
    rooms: Rooms,
    stop: Stop,
) {
    let places = Arc::new(Semaphore::new(policy.max_connections));
    let desk = Arc::new(Desk::new(router, rooms.telemetry.clone()));
    let door = Arc::new(Door { policy, desk, rooms, http: Http::new(), stop: stop.clone() });
    let connections = TaskTracker::new();
    let mut accepting = Accepting::on(listener, "http");
    let accept = async {
        loop {
            let place = place(&places).await;
            let (socket, address) = accepting.next().await;
            let tls = TlsAcceptor::from(Arc::clone(&tls.borrow()));
            connections.spawn(Arc::clone(&door).enter(socket, address, tls, place));
        }
    };
    tokio::select! {
        () = accept => {}
        () = stop.graceful.cancelled() => {}
    }
    drop(accepting);
    connections.close();
    connections.wait().await;
}

/// A place under the cap, after a word in the log if there is none now.
async fn place(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        return place;
    }
    warn!("all connection places are taken; new connections wait");
    Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed")
}

/// HTTP as it is served. A connection whose TLS handshake agreed on a version is not asked again: what looks for the version
/// in the first bytes makes HTTP/1 read into twice the buffer, for as long as the connection lives.
struct Http {
    one: auto::Builder<TokioExecutor>,
    two: auto::Builder<TokioExecutor>,
    either: auto::Builder<TokioExecutor>,
}

impl Http {
    fn new() -> Self {
        let mut either = auto::Builder::new(TokioExecutor::new());
        // hyper's own header timeout also counts the idle time between requests; [`Requests::watch`] has both.
        either
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .auto_date_header(false)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS);
        either
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADER_LIST)
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .auto_date_header(false);
        Self { one: either.clone().http1_only(), two: either.clone().http2_only(), either }
    }

    fn on(&self, connection: &Connection) -> &auto::Builder<TokioExecutor> {
        match connection.alpn() {
            Some(HTTP_1_1) => &self.one,
            Some(HTTP_2) => &self.two,
            _ => &self.either,
        }
    }
}

/// What every connection's task needs.
struct Door {
    policy: Policy,
    desk: Arc<Desk>,
    rooms: Rooms,
    http: Http,
    stop: Stop,
}

impl Door {
    /// One connection from accept to its end, if it may be here.
    async fn enter(
        self: Arc<Self>,
        mut socket: TcpStream,
        peer: SocketAddr,
        tls: TlsAcceptor,
        place: OwnedSemaphorePermit,
    ) {
        let address = match self.policy.proxy_headers.client(&mut socket, peer).await {
            Ok(address) => address,
            Err(error) => return warn!(%peer, %error, "a load balancer's connection was closed"),
        };
        let Ok(caller) = self.rooms.admission.enter(Port::Http, address.ip()) else { return };
        let Ok(_room) = self.rooms.budget.reserve(Use::Http) else { return };
        let _live = self.rooms.telemetry.connection();
        let greeted = tokio::select! {
            greeted = greet(socket, tls, place) => greeted,
            () = caller.displaced() => return,
            () = self.stop.graceful.cancelled() => return,
        };
        match greeted {
            Ok((connection, secure)) => {
                let transport = if secure { TransportLabel::Tls } else { TransportLabel::Plain };
                self.rooms.telemetry.connected(transport);
                self.converse(connection, Peer { address, secure }, caller).await;
            }
            Err(error) => {
                self.rooms.telemetry.connected(TransportLabel::Failed);
                debug!(peer = %address, %error, "connection ended before its first request");
                caller.failed(if error.kind() == io::ErrorKind::TimedOut {
                    Failure::Grace
                } else {
                    Failure::Nothing
                });
            }
        }
    }

    /// Speaks HTTP on the connection until either side ends it.
    async fn converse(self: Arc<Self>, connection: Connection, peer: Peer, caller: Caller) {
        let requests = Arc::new(Requests::default());
        let line = Arc::new(Line::new(Arc::clone(&self.desk)));
        let service = service_fn(|request: Request<Incoming>| {
            let in_flight = requests.start();
            let answer = self.answer(&line, peer, &caller, request);
            async move {
                let answer = answer.await;
                drop(in_flight);
                answer
            }
        });
        let http = self.http.on(&connection);
        let mut conversation = pin!(http.serve_connection_with_upgrades(TokioIo::new(connection), service));
        // Polled when something about it happened, not with every byte of the conversation.
        let mut endings = FuturesUnordered::from_iter([Box::pin(self.ending(&requests, &caller, false))]);
        loop {
            tokio::select! {
                biased;
                ended = &mut conversation => {
                    if let Err(error) = ended {
                        debug!(peer = %peer.address, %error, "connection ended out of order");
                    }
                    return;
                }
                Some(ending) = endings.next() => match ending {
                    Ending::NeverAsked => return caller.failed(Failure::Grace),
                    Ending::Cut => return,
                    Ending::Retired => {}
                },
            }
            // Closes an idle connection at once, and any other after the requests in flight.
            conversation.as_mut().graceful_shutdown();
            endings.push(Box::pin(self.ending(&requests, &caller, true)));
        }
    }

    /// Why a connection should end that its peer keeps open. A retired one is only cut.
    async fn ending(&self, requests: &Requests, caller: &Caller, retired: bool) -> Ending {
        tokio::select! {
            ending = requests.watch(caller), if !retired => ending,
            () = self.stop.graceful.cancelled(), if !retired => Ending::Retired,
            () = caller.displaced() => Ending::Cut,
            () = self.stop.now.cancelled() => Ending::Cut,
        }
    }

    /// The answer, or the refusal of plain HTTP.
    fn answer(
        &self,
        line: &Arc<Line>,
        mut peer: Peer,
        caller: &Caller,
        request: Request<Incoming>,
    ) -> Answer {
        if !(peer.secure || self.policy.allows_plain(peer.address)) {
            let problem = plain_http_refused();
            // Counted together by source, as all that strangers are refused: a flood does not fill the log.
            refused_outside(&self.rooms.audit, PLAIN_HTTP, Some(peer), &Noted::default(), &problem);
            return Answer::Now(Some(dated(problem.into_response())));
        }
        let is_direct = !self.policy.is_trusted(peer.address);
        if is_direct {
            return line.answer(request, Sender { peer, caller: caller.clone(), is_direct });
        }
        peer = forwarded(peer, request.headers());
        line.answer(request, Sender { peer, caller: caller.speaking_for(peer.address.ip()), is_direct })
    }
}

/// Prepares the socket and does what comes before HTTP: the first byte, and TLS where it announces that.
async fn greet(
    socket: TcpStream,
    tls: TlsAcceptor,
    place: OwnedSemaphorePermit,
) -> io::Result<(Connection, bool)> {
    let keepalive = TcpKeepalive::new()
        .with_time(TCP_KEEPALIVE_IDLE)
        .with_interval(TCP_KEEPALIVE_INTERVAL)
        .with_retries(TCP_KEEPALIVE_PROBES);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    socket.set_nodelay(true)?;
    let mut first = [0];
    if timeout(FIRST_BYTE_TIMEOUT, socket.peek(&mut first)).await?? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if first[0] != TLS_HANDSHAKE {
        return Ok((Connection::plain(socket, place), false));
    }
    let stream = timeout(HANDSHAKE_TIMEOUT, tls.accept(socket)).await??;
    Ok((Connection::tls(stream, place), true))
}

/// The client's address and scheme as a trusted proxy tells them: the last of each list, which is what the proxy
/// itself added; what stands before it is the client's word.
pub(super) fn forwarded(proxy: Peer, headers: &HeaderMap) -> Peer {
    let last = |name: &str| {
        let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
        value.rsplit(',').next().map(str::trim).map(str::to_owned)
    };
    let address = last("x-forwarded-for").and_then(|text| {
        text.parse::<SocketAddr>().ok().or_else(|| text.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, 0)))
    });
    let secure = last("x-forwarded-proto").map(|scheme| scheme.eq_ignore_ascii_case("https"));
    Peer { address: address.unwrap_or(proxy.address), secure: secure.unwrap_or(proxy.secure) }
}

fn plain_http_refused() -> Problem {
    let detail = "this gateway speaks plain HTTP with its own machine and with trusted proxies only; use https:// with \
                  the same host and port, or have the operator look at --plain-http and --trusted-proxy";
    Problem::new(Code::PlainHttpRefused, detail)
}

/// Requests of one connection, counted to tell when it is idle.
#[derive(Default)]
struct Requests {
    started: AtomicUsize,
    in_flight: AtomicUsize,
}

/// Counts a request as in flight until it is dropped.
struct InFlight(Arc<Requests>);

/// Why a connection should end.
enum Ending {
    /// No request head came in [`FIRST_REQUEST_TIMEOUT`].
    NeverAsked,
    /// No request for [`KEEP_ALIVE_IDLE`] or [`STRANGER_IDLE`], or the gateway is about to end: nothing new begins on it.
    Retired,
    /// Its place is taken, or the gateway's time is up.
    Cut,
}

impl Requests {
    fn start(self: &Arc<Self>) -> InFlight {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Waits until the connection has no business any more. Looks rarely instead of noting the time of each request:
    /// check-ins are many, and an idle connection may well live up to twice its time.
    async fn watch(&self, caller: &Caller) -> Ending {
        sleep(FIRST_REQUEST_TIMEOUT).await;
        let mut seen = self.started.load(Ordering::Relaxed);
        if seen == 0 {
            return Ending::NeverAsked;
        }
        loop {
            sleep(if caller.is_welcome() { KEEP_ALIVE_IDLE } else { STRANGER_IDLE }).await;
            let started = self.started.load(Ordering::Relaxed);
            if started == seen && self.in_flight.load(Ordering::Relaxed) == 0 {
                return Ending::Retired;
            }
            seen = started;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
