//! Reaching `HOST:PORT`: directly, or through the HTTP CONNECT proxy (RFC 9110 §9.3.6) that the environment names.
//!
//! `HTTPS_PROXY` or `ALL_PROXY` names the proxy and `NO_PROXY` the exceptions, as curl reads them and also for plain
//! HTTP and SSH: everything of ours goes through the proxy as a tunnel. Nothing is exempt by itself, loopback included.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{StatusCode, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::host_port::HostPort;

/// Longest wait for a name to resolve and one of its addresses to accept. Slow satellite links need 3 s; a packet that a
/// firewall drops never answers.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a proxy's answer: it connects to the target in the meantime, with its own time limit.
const PROXY_TIMEOUT: Duration = Duration::from_secs(20);
/// A proxy's answer has a status line and a few headers.
const MAX_PROXY_HEAD: usize = 16 * 1024;
const HEAD_END: &[u8] = b"\r\n\r\n";
/// Pause before the next address is tried beside the last (RFC 8305 §8 recommends 250 ms).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Pause before an eager dial tries everything again beside what it tried so far. The kernel itself repeats the first
/// packet of a connection after 1, 3 and 7 s, so a network that comes back in between is seen late without it.
const EAGER_DELAY: Duration = Duration::from_secs(1);
/// A name with more addresses than this is not dialled at more of them.
const MAX_ADDRESSES: usize = 16;
/// The kernel asks a silent peer after this time, below the 5 min after which common NATs forget a connection.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// The same for a connection on which somebody waits for an answer that may take a minute: below the 30 s after which some
/// mobile networks forget a connection, and often enough to keep theirs alive. It costs 104 bytes each time.
const WATCHED_KEEP_ALIVE: Duration = Duration::from_secs(25);
const WATCHED_INTERVAL: Duration = Duration::from_secs(5);
/// How long its peer's machine may leave bytes or probes unanswered: three probes.
const WATCHED_TIMEOUT: Duration = Duration::from_secs(40);

/// Why nothing was reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name does not resolve.
    #[error("can't look up {host}: {source}")]
    Lookup {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// Every address refused or failed; the last one's error.
    #[error("can't connect to {target}: {source}")]
    Connect {
        /// What was dialled.
        target: HostPort,
        /// Why.
        source: io::Error,
    },
    /// No address accepted in time.
    #[error("can't connect to {target}: no answer within {} s", .after.as_secs())]
    Timeout {
        /// What was dialled.
        target: HostPort,
        /// How long.
        after: Duration,
    },
    /// The environment names a proxy that we can't use.
    #[error(
        "the proxy {proxy} can't be used: only http:// proxies are supported; set HTTPS_PROXY or NO_PROXY"
    )]
    ProxyKind {
        /// Without its credentials.
        proxy: String,
    },
    /// The proxy itself can't be reached.
    #[error("can't reach the proxy {proxy}: {source}")]
    Proxy {
        /// Without its credentials.
        proxy: String,
        /// Why.
        source: Box<DialError>,
    },
    /// The proxy said no.
    #[error("the proxy {proxy} refused to connect to {target}: {status}{}", hint(*.status))]
    ProxyRefused {
        /// Without its credentials.
        proxy: String,
        /// What was asked for.
        target: HostPort,
        /// Its answer.
        status: StatusCode,
    },
    /// The proxy's answer makes no sense.
    #[error("the proxy {proxy} did not answer as one: {reason}")]
    ProxyAnswer {
        /// Without its credentials.
        proxy: String,
        /// What it did instead.
        reason: String,
    },
}

impl DialError {
    /// Whether something at the target's address said no. The network works then, and the program behind it does not.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Connect { source, .. } => {
                matches!(source.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
            }
            Self::Lookup { .. }
            | Self::Timeout { .. }
            | Self::ProxyKind { .. }
            | Self::Proxy { .. }
            | Self::ProxyRefused { .. }
            | Self::ProxyAnswer { .. } => false,
        }
    }
}

fn hint(status: StatusCode) -> &'static str {
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        "; put user name and password into the proxy's URL"
    } else {
        ""
    }
}

/// Reaches gateways the way that the environment asks for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    proxies: Option<Arc<Matcher>>,
}

impl Dialer {
    /// Through the proxy in `HTTPS_PROXY` or `ALL_PROXY` (or in lower case), except for what `NO_PROXY` lists.
    pub fn from_environment() -> Self {
        Self { proxies: Some(Arc::new(Matcher::from_env())) }
    }

    /// Never through a proxy.
    pub fn direct() -> Self {
        Self { proxies: None }
    }

    /// Through this proxy, except for what `no_proxy` lists.
    pub fn through(proxy: &str, no_proxy: &str) -> Self {
        Self { proxies: Some(Arc::new(Matcher::builder().all(proxy).no(no_proxy).build())) }
    }

    /// A connection to `target`, with keep-alive on and Nagle's algorithm off. Bounded in time by constants of this
    /// module. Not cancelled half-way: dropping the future closes what was opened.
    pub async fn dial(&self, target: &HostPort) -> Result<TcpStream, DialError> {
        match self.proxy_for(target) {
            None => connect(target, CONNECT_TIMEOUT).await,
            Some(proxy) => dial_through(&proxy, target).await,
        }
    }

    /// As [`Dialer::dial`], for a network that is broken and may come back at any moment: everything is tried again every
    /// second beside what is under way, and the first to succeed or fail is the result. A slow network loses nothing by
    /// it, since no try is given up for the next.
    pub async fn dial_eagerly(&self, target: &HostPort) -> Result<TcpStream, DialError> {
        let mut tries = FuturesUnordered::new();
        loop {
            tries.push(self.dial(target));
            let pause = tokio::time::sleep(EAGER_DELAY);
            tokio::select! {
                Some(result) = tries.next() => return result,
                () = pause => {}
            }
        }
    }

    /// Whether a proxy is in between.
    pub fn uses_proxy(&self, target: &HostPort) -> bool {
        self.proxy_for(target).is_some()
    }

    fn proxy_for(&self, target: &HostPort) -> Option<Intercept> {
        // The scheme picks the variable: HTTPS_PROXY stands for "a proxy that does CONNECT".
        let uri: Uri = format!("https://{target}/").parse().ok()?;
        self.proxies.as_ref()?.intercept(&uri)
    }
}

/// Connects to the first address of `target` that accepts: each next one is tried beside those before it.
pub async fn connect(target: &HostPort, within: Duration) -> Result<TcpStream, DialError> {
    match timeout(within, connect_any(target)).await {
        Ok(connected) => connected,
        Err(_) => Err(DialError::Timeout { target: target.clone(), after: within }),
    }
}

async fn connect_any(target: &HostPort) -> Result<TcpStream, DialError> {
    let lookup = |source| DialError::Lookup { host: target.host.clone(), source };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((target.host.as_str(), target.port))
        .await
        .map_err(lookup)?
        .take(MAX_ADDRESSES)
        .collect();
    let mut waiting = addresses.into_iter().map(TcpStream::connect);
    let mut attempts: FuturesUnordered<_> = waiting.next().into_iter().collect();
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    while !attempts.is_empty() {
        tokio::select! {
            Some(result) = attempts.next() => match result {
                Ok(stream) => return prepared(stream, target),
                Err(error) => {
                    last_error = error;
                    attempts.extend(waiting.next());
                }
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if waiting.len() > 0 => attempts.extend(waiting.next()),
        }
    }
    Err(DialError::Connect { target: target.clone(), source: last_error })
}

fn prepared(stream: TcpStream, target: &HostPort) -> Result<TcpStream, DialError> {
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 4);
    stream
        .set_nodelay(true)
        .and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keep_alive))
        .map_err(|source| DialError::Connect { target: target.clone(), source })?;
    Ok(stream)
}

/// Has the kernel find out within 40 s that the way to the peer is broken, though nothing is said on the connection; reads
/// and writes then fail with a time-out.
pub fn watch(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let keep_alive = TcpKeepalive::new().with_time(WATCHED_KEEP_ALIVE).with_interval(WATCHED_INTERVAL);
    socket.set_tcp_keepalive(&keep_alive)?;
    // Without a limit of its own the kernel repeats bytes for a quarter of an hour.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(WATCHED_TIMEOUT))?;
    Ok(())
}

async fn dial_through(proxy: &Intercept, target: &HostPort) -> Result<TcpStream, DialError> {
    // The URI of an `Intercept` is without credentials, so it may be shown.
    let name = proxy.uri().to_string();
    let address = match (proxy.uri().scheme_str(), proxy.uri().host()) {
        (Some("http"), Some(host)) => HostPort {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: proxy.uri().port_u16().unwrap_or(80),
        },
        (_, _) => return Err(DialError::ProxyKind { proxy: name }),
    };
    let mut stream = connect(&address, CONNECT_TIMEOUT)
        .await
        .map_err(|source| DialError::Proxy { proxy: name.clone(), source: Box::new(source) })?;
    let odd = |reason: String| DialError::ProxyAnswer { proxy: name.clone(), reason };
    match timeout(PROXY_TIMEOUT, ask_for_tunnel(&mut stream, proxy, target)).await {
        Ok(Ok(status)) if status.is_success() => Ok(stream),
        Ok(Ok(status)) => Err(DialError::ProxyRefused { proxy: name, target: target.clone(), status }),
        Ok(Err(error)) => Err(odd(error.to_string())),
        Err(_) => Err(odd(format!("no answer within {} s", PROXY_TIMEOUT.as_secs()))),
    }
}

async fn ask_for_tunnel(
    stream: &mut TcpStream,
    proxy: &Intercept,
    target: &HostPort,
) -> io::Result<StatusCode> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n").into_bytes();
    if let Some(credentials) = proxy.basic_auth() {
        request.extend_from_slice(b"proxy-authorization: ");
        request.extend_from_slice(credentials.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let head = read_head(stream).await?;
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut headers);
    answer.parse(&head).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    answer
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer without a status"))
}

/// Takes the head of an answer from the socket and not one byte more: an SSH server speaks first, so its greeting may
/// stand right behind.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while head.len() < MAX_PROXY_HEAD {
        let seen = stream.peek(&mut chunk).await?;
        if seen == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
        }
        let before = head.len();
        head.extend_from_slice(&chunk[..seen]);
        let end =
            head.windows(HEAD_END.len()).position(|bytes| bytes == HEAD_END).map(|at| at + HEAD_END.len());
        let take = end.map_or(seen, |end| end - before);
        stream.read_exact(&mut chunk[..take]).await?;
        head.truncate(before + take);
        if end.is_some() {
            return Ok(head);
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the head of its answer has no end"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn listener() -> (TcpListener, HostPort) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string().parse().expect("an address");
        (listener, address)
    }

    /// A proxy that gives `answer` to one request; the request comes back.
    async fn proxy(answer: &'static [u8]) -> (HostPort, tokio::task::JoinHandle<String>) {
        let (listener, address) = listener().await;
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let request = read_head(&mut stream).await.expect("a request");
            // In two pieces, cut in the middle of the head's end.
            let (first, rest) = answer.split_at(answer.len().min(20));
            stream.write_all(first).await.expect("written");
            tokio::task::yield_now().await;
            stream.write_all(rest).await.expect("written");
            let _ = stream.read(&mut [0]).await;
            String::from_utf8(request).expect("text")
        });
        (address, task)
    }

    fn target() -> HostPort {
        "gate.example.com:8000".parse().expect("valid")
    }

    #[tokio::test]
    async fn bytes_behind_the_proxys_answer_belong_to_the_caller() {
        let (address, asked) = proxy(b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nSSH-2.0-x\r\n").await;
        let dialer = Dialer::through(&format!("http://me:p%40ss@{address}"), "");
        let mut stream = dialer.dial(&target()).await.expect("a tunnel");
        let mut greeting = [0; 11];
        stream.read_exact(&mut greeting).await.expect("the greeting");
        assert_eq!(&greeting, b"SSH-2.0-x\r\n");
        drop(stream);
        let asked = asked.await.expect("no panic");
        assert!(asked.starts_with("CONNECT gate.example.com:8000 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("proxy-authorization: Basic bWU6cEBzcw==\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn refusal_names_proxy_and_status_and_no_password() {
        let (address, _asked) = proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
        let dialer = Dialer::through(&format!("http://me:secret@{address}"), "");
        let error = dialer.dial(&target()).await.expect_err("refused").to_string();
        assert!(error.contains(&address.to_string()) && error.contains("407"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[tokio::test]
    async fn proxy_that_is_none_is_said_to_be_none() {
        for answer in [&b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..], b"HTTP/1.1 "] {
            let (address, asked) = proxy(answer).await;
            let dialer = Dialer::through(&address.to_string(), "");
            if answer.ends_with(b" ") {
                asked.abort();
            }
            let error = dialer.dial(&target()).await.expect_err("no proxy");
            assert!(matches!(error, DialError::ProxyAnswer { .. } | DialError::Proxy { .. }), "{error}");
        }
        let error = Dialer::through("socks5://127.0.0.1:1", "").dial(&target()).await.expect_err("SOCKS");
        assert!(matches!(error, DialError::ProxyKind { .. }), "{error}");
    }

    #[tokio::test]
    async fn no_proxy_is_honoured_and_loopback_is_not_exempt_by_itself() {
        let (listener, address) = listener().await;
        let unused = "http://127.0.0.1:1";
        let error = Dialer::through(unused, "").dial(&address).await.expect_err("through the dead proxy");
        assert!(matches!(error, DialError::Proxy { .. }), "{error}");
        Dialer::through(unused, "example.com, 127.0.0.1").dial(&address).await.expect("directly");
        drop(listener);
        let error = Dialer::direct().dial(&address).await.expect_err("nobody listens");
        assert!(matches!(error, DialError::Connect { .. }), "{error}");
    }

    #[tokio::test]
    async fn name_that_does_not_exist_is_a_lookup_error() {
        let target: HostPort = "does-not-exist.invalid:1".parse().expect("valid");
        let error = Dialer::direct().dial(&target).await.expect_err("no such name");
        assert!(matches!(error, DialError::Lookup { .. }), "{error}");
    }
}
