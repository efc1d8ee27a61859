//! The check-in connection of one simulated agent: TCP from its own source address, TLS with pins, HTTP/2 or HTTP/1.1.
//!
//! What is sent is what an agent of ours sends, byte for byte where it matters: the same headers, no more of them, and no
//! HTTP/2 frame that nobody asked for. The rule: nothing here waits for ever.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use shared::tls::{self, TlsError};
use shared::tunnel::sever::Severable;
use shared::wire::check_in::{INSTANCE_HEADER, Identity, MAX_BODY, PATH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::result::{FailureKind, Protocol};

/// Longest wait for a connection, and for its TLS: a gateway that is asked by thousands at once needs seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for an answer that is not held.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// What a held answer may take beyond the time that was asked for.
const HOLD_GRACE: Duration = Duration::from_secs(10);
/// Window of a connection and of each of its streams: the protocol's own default (RFC 9113, 6.9.2), so that nothing has to
/// be said about it. An answer has some hundred bytes.
const WINDOW: u32 = 65_535;
/// The name that the certificate would be checked for if there were no pins.
const SERVER: &str = "localhost";

/// Says how long a question may be held (RFC 7240, 4.3).
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Says that it was (RFC 7240, 3).
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Where agents ask, and how. The same for all agents of a run.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    authority: HeaderValue,
    uri: Uri,
    protocol: Protocol,
    tls: Arc<ClientConfig>,
    /// Seconds that a question may be held, if it may.
    hold: Option<u32>,
    /// Connections end with a reset instead of a goodbye.
    abrupt: bool,
}

impl Endpoint {
    /// The gateway at `address`, with one of the pinned keys.
    ///
    /// # Errors
    /// If there is no TLS on this machine.
    pub fn new(
        address: SocketAddr,
        pins: &[shared::fingerprint::TlsFingerprint],
        protocol: Protocol,
        hold: Option<u32>,
        abrupt: bool,
    ) -> Result<Self, TlsError> {
        let mut config = (*tls::client_config(pins, None)?).clone();
        let name: &[u8] = match protocol {
            Protocol::Http2 => b"h2",
            Protocol::Http1 => b"http/1.1",
        };
        config.alpn_protocols = vec![name.to_vec()];
        // All agents share this configuration, and none has a session of another to resume.
        config.resumption = rustls::client::Resumption::disabled();
        let authority = address.to_string();
        let uri = match protocol {
            // In HTTP/2 scheme and authority are fields of their own.
            Protocol::Http2 => {
                format!("https://{authority}{PATH}").parse().expect("an address and a path are a URI")
            }
            Protocol::Http1 => Uri::from_static(PATH),
        };
        let authority = HeaderValue::try_from(authority).expect("an address is visible ASCII");
        Ok(Self { address, authority, uri, protocol, tls: Arc::new(config), hold, abrupt })
    }

    /// Seconds that a question may be held, if it may.
    pub fn hold(&self) -> Option<u32> {
        self.hold
    }

    fn answer_timeout(&self) -> Duration {
        self.hold.map_or(ANSWER_TIMEOUT, |wait| Duration::from_secs(wait.into()) + HOLD_GRACE)
    }

    fn request(&self, shown: &Shown, body: Bytes) -> Request<Full<Bytes>> {
        let has_body = !body.is_empty();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        if self.protocol == Protocol::Http1 {
            headers.insert(header::HOST, self.authority.clone());
        }
        headers.insert(header::AUTHORIZATION, shown.authorization.clone());
        headers.insert(INSTANCE_HEADER, shown.instance.clone());
        if has_body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(wait) = self.hold {
            let wait = HeaderValue::try_from(format!("wait={wait}")).expect("digits are visible ASCII");
            headers.insert(PREFER, wait);
        }
        request
    }
}

/// What an agent shows with each question.
#[derive(Clone, Debug)]
pub struct Shown {
    authorization: HeaderValue,
    instance: HeaderValue,
}

impl From<&Identity> for Shown {
    fn from(identity: &Identity) -> Self {
        // Not marked as sensitive: HTTP/2 would not compress it then, and send it anew with each question.
        let authorization = HeaderValue::try_from(identity.authorization.expose());
        let instance = HeaderValue::try_from(identity.instance.to_string());
        Self {
            authorization: authorization.expect("a UUID and base64url are visible ASCII"),
            instance: instance.expect("a UUID is visible ASCII"),
        }
    }
}

/// An answer, complete.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// The gateway held it back for a while.
    pub held: bool,
    /// Its body.
    pub body: Bytes,
}

/// A connection that is open.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    /// The agent's end of it.
    pub local: SocketAddr,
    /// Cuts the socket whatever is done with it, when it is dropped.
    cut: Option<DropGuard>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Connects from `source`, where one is given.
    ///
    /// # Errors
    /// What failed.
    pub async fn open(endpoint: &Endpoint, source: Option<IpAddr>) -> Result<Self, FailureKind> {
        let socket = dial(endpoint.address, source).await.map_err(|_| FailureKind::Connect)?;
        let local = socket.local_addr().map_err(|_| FailureKind::Connect)?;
        if endpoint.abrupt {
            socket.set_zero_linger().map_err(|_| FailureKind::Connect)?;
        }
        let cut = CancellationToken::new();
        let socket = Severable::new(socket, cut.clone());
        let name = ServerName::try_from(SERVER).expect("a DNS name");
        let handshake = TlsConnector::from(Arc::clone(&endpoint.tls)).connect(name, socket);
        let stream = timeout(CONNECT_TIMEOUT, handshake)
            .await
            .map_err(|_| FailureKind::Timeout)?
            .map_err(|error| if is_tls(&error) { FailureKind::Tls } else { FailureKind::Broken })?;
        let sender = speak(endpoint.protocol, stream).await.map_err(|_| FailureKind::Broken)?;
        Ok(Self { sender, local, cut: Some(cut.drop_guard()) })
    }

    /// Whether it can't take another question.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// What failed. Nothing more can be asked on this connection then.
    pub async fn ask(
        &mut self,
        endpoint: &Endpoint,
        shown: &Shown,
        body: Bytes,
    ) -> Result<Reply, FailureKind> {
        let asking = async {
            let answer = match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(endpoint.request(shown, body)).await?
                }
                Sender::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(endpoint.request(shown, body)).await?
                }
            };
            Ok(read(answer).await)
        };
        match timeout(endpoint.answer_timeout(), asking).await {
            Ok(Ok(reply)) => reply,
            Ok(Err::<_, hyper::Error>(_)) => Err(FailureKind::Broken),
            Err(_) => Err(FailureKind::Timeout),
        }
    }

    /// Ends it in order: the peer is told, and the socket closes when all is said.
    pub fn close(mut self) {
        if let Some(guard) = self.cut.take() {
            guard.disarm();
        }
    }
}

async fn read(answer: Response<Incoming>) -> Result<Reply, FailureKind> {
    let (head, body) = answer.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Err(FailureKind::Broken),
    };
    let applied = head.headers.get(PREFERENCE_APPLIED).and_then(|value| value.to_str().ok());
    Ok(Reply { status: head.status, held: applied.is_some_and(|value| value.starts_with("wait")), body })
}

async fn speak(
    protocol: Protocol,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> hyper::Result<Sender> {
    // Both drivers end with their sender or their socket; what goes wrong shows at the question.
    Ok(match protocol {
        Protocol::Http1 => {
            let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(driver);
            Sender::Http1(sender)
        }
        Protocol::Http2 => {
            let (sender, driver) = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .handshake(TokioIo::new(stream))
                .await?;
            tokio::spawn(driver);
            Sender::Http2(sender)
        }
    })
}

/// A TCP connection from `source`, with Nagle's algorithm off.
///
/// # Errors
/// Those of the system; `TimedOut` after [`CONNECT_TIMEOUT`].
pub async fn dial(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream =
        timeout(CONNECT_TIMEOUT, socket.connect(address)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether a handshake failed by what was said in it, and not because nothing was said any more.
fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>())
}
