//! The check-in connection of one simulated agent: TCP from its own source address, TLS with pins, and in it the line of
//! [`shared::line`], so that the bytes are those of a real agent.
//!
//! The rule: nothing here waits for ever.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use hyper::body::Bytes;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use shared::dial::watch;
use shared::fingerprint::TlsFingerprint;
use shared::line::{Answer, Caller, Line, Protocol};
use shared::tls::{self, TlsError};
use shared::wire::check_in::Identity;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::result::FailureKind;

/// Longest wait for a connection, and for its TLS: a gateway that is asked by thousands at once needs seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for an answer that is not held.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The name that the certificate would be checked for if there were no pins.
const SERVER: &str = "localhost";

/// Where agents ask, and how. The same for all agents of a run.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    authority: String,
    protocol: Protocol,
    tls: Arc<ClientConfig>,
    /// For how long a question may be held, if it may.
    hold: Option<Duration>,
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
        pins: &[TlsFingerprint],
        protocol: Protocol,
        hold: Option<Duration>,
        abrupt: bool,
    ) -> Result<Self, TlsError> {
        let mut config = (*tls::client_config(pins, None)?).clone();
        config.alpn_protocols = match protocol {
            Protocol::Http1 => vec![tls::HTTP_1_1.to_vec()],
            Protocol::Http2 => vec![tls::HTTP_2.to_vec()],
        };
        // All agents share this configuration, and none has a session of another to resume.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { address, authority: address.to_string(), protocol, tls: Arc::new(config), hold, abrupt })
    }

    /// Who asks there.
    pub fn caller(&self, identity: &Identity) -> Caller {
        Caller::new(Scheme::HTTPS, &self.authority, identity).expect("an address is an authority")
    }

    /// Whether questions may be held.
    pub fn holds(&self) -> bool {
        self.hold.is_some()
    }
}

/// A connection that is open. Dropping it closes it at once.
#[derive(Debug)]
pub struct Connection {
    line: Line,
    /// The agent's end of it.
    pub local: SocketAddr,
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
        if endpoint.holds() {
            watch(&socket).map_err(|_| FailureKind::Connect)?;
        }
        let name = ServerName::try_from(SERVER).expect("a DNS name");
        let handshake = TlsConnector::from(Arc::clone(&endpoint.tls)).connect(name, socket);
        let stream = timeout(CONNECT_TIMEOUT, handshake)
            .await
            .map_err(|_| FailureKind::Timeout)?
            .map_err(|error| if is_tls(&error) { FailureKind::Tls } else { FailureKind::Broken })?;
        let line = Line::open(stream, endpoint.protocol).await.map_err(|_| FailureKind::Broken)?;
        Ok(Self { line, local })
    }

    /// Whether it can't take another question.
    pub fn is_closed(&self) -> bool {
        self.line.is_spent()
    }

    /// Asks, and waits for the whole answer, which may be held where `patient` says so and the run does.
    ///
    /// # Errors
    /// What failed. Nothing more can be asked on this connection then.
    pub async fn ask(
        &mut self,
        endpoint: &Endpoint,
        caller: &Caller,
        patient: bool,
        report: Option<Bytes>,
    ) -> Result<Answer, FailureKind> {
        let hold = endpoint.hold.filter(|_| patient);
        let question = caller.check_in(self.line.protocol(), hold, report);
        match timeout(hold.unwrap_or_default() + ANSWER_TIMEOUT, self.line.exchange(question)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(FailureKind::Broken),
            Err(_) => Err(FailureKind::Timeout),
        }
    }
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
    let connecting = timeout(CONNECT_TIMEOUT, socket.connect(address));
    let stream = connecting.await.map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether a handshake failed by what was said in it, and not because nothing was said any more.
fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>())
}
