//! What the agent exposes: names, targets, and how a target is dialled.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use shared::dial::{self, DialError};
use shared::host_port::HostPort;
use shared::id::ServiceName;
use shared::tunnel::carry::Local;
use shared::tunnel::dial_failure::DialFailure;
use shared::wire::check_in::{self, MAX_SERVICES, ServiceKind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Longest wait for a target to accept. Targets are near; an operator waits for the answer.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A service: `NAME=TARGET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// By which streams are addressed.
    pub name: ServiceName,
    /// What is dialled for each stream.
    pub target: Target,
}

/// What is dialled for a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `HOST:PORT`
    Tcp(HostPort),
    /// `http://HOST:PORT`
    Http(HostPort),
    /// `unix:///PATH`
    Unix(PathBuf),
}

/// Why a text is no service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// No `=` in it.
    #[error(
        "{0:?} is not NAME=TARGET, as in web=http://127.0.0.1:8080, db=127.0.0.1:5432 or docker=unix:///var/run/docker.sock"
    )]
    Form(String),
    /// The name is none.
    #[error(
        "the service name {0:?} is not valid: 1 to 63 of the characters a-z, 0-9 and '-', with no '-' at either end"
    )]
    Name(String),
    /// The target is none.
    #[error("the target {target:?} of service {name} is not valid: {problem}")]
    Target {
        /// Whose target.
        name: ServiceName,
        /// As given.
        target: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Two services have one name.
    #[error("two services are named {0}; give each its own name")]
    Duplicate(ServiceName),
    /// More than a hello may announce.
    #[error("{0} services are too many: an agent exposes at most {MAX_SERVICES}")]
    TooMany(usize),
}

impl FromStr for Service {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let (name, target) = text.split_once('=').ok_or_else(|| ServiceError::Form(text.to_owned()))?;
        let name: ServiceName = name.parse().map_err(|_| ServiceError::Name(name.to_owned()))?;
        match parse_target(target) {
            Ok(target) => Ok(Self { name, target }),
            Err(problem) => Err(ServiceError::Target { name, target: target.to_owned(), problem }),
        }
    }
}

fn parse_target(text: &str) -> Result<Target, &'static str> {
    const PORT_NEEDED: &str = "HOST:PORT is needed, with brackets around an IPv6 address";
    if let Some(path) = text.strip_prefix("unix://") {
        return if path.starts_with('/') && !path.contains('\0') {
            Ok(Target::Unix(path.into()))
        } else {
            Err("the path of a unix socket must be absolute, as in unix:///var/run/docker.sock")
        };
    }
    if let Some(address) = text.strip_prefix("http://") {
        let address = address.strip_suffix('/').unwrap_or(address);
        if address.contains('/') {
            return Err("a path can't be given: requests bring their own");
        }
        let with_port =
            if address.parse::<HostPort>().is_ok() { address.to_owned() } else { format!("{address}:80") };
        return with_port.parse().map(Target::Http).map_err(|_| PORT_NEEDED);
    }
    if text.contains("://") {
        return Err(
            "only http:// and unix:// are known; for anything else over TCP, TLS included, give HOST:PORT",
        );
    }
    text.parse().map(Target::Tcp).map_err(|_| PORT_NEEDED)
}

/// Refuses what no hello could announce: two services of one name, or too many.
pub fn check(services: &[Service]) -> Result<(), ServiceError> {
    if services.len() > MAX_SERVICES {
        return Err(ServiceError::TooMany(services.len()));
    }
    for (index, service) in services.iter().enumerate() {
        if services[..index].iter().any(|earlier| earlier.name == service.name) {
            return Err(ServiceError::Duplicate(service.name.clone()));
        }
    }
    Ok(())
}

impl Service {
    /// As a hello announces it.
    pub fn announced(&self) -> check_in::Service {
        let kind = match self.target {
            Target::Tcp(_) => ServiceKind::Tcp,
            Target::Http(_) => ServiceKind::Http,
            Target::Unix(_) => ServiceKind::Unix,
        };
        check_in::Service { name: self.name.clone(), kind, target: self.target.to_string() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Http(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Why a target could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Over TCP.
    #[error(transparent)]
    Tcp(#[from] DialError),
    /// Over a unix socket.
    #[error("can't connect to {path}: {source}")]
    Unix {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl TargetError {
    /// What the gateway is told.
    pub fn failure(&self) -> DialFailure {
        match self {
            Self::Tcp(DialError::Lookup { .. }) => DialFailure::NoSuchHost,
            Self::Tcp(DialError::Timeout { .. }) => DialFailure::Timeout,
            Self::Tcp(DialError::Connect { source, .. }) => match source.kind() {
                io::ErrorKind::ConnectionRefused => DialFailure::Refused,
                io::ErrorKind::TimedOut => DialFailure::Timeout,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    DialFailure::Unreachable
                }
                io::ErrorKind::NotFound => DialFailure::NoSuchHost,
                _ => DialFailure::Other,
            },
            // Targets are dialled directly.
            Self::Tcp(
                DialError::ProxyKind { .. }
                | DialError::Proxy { .. }
                | DialError::ProxyRefused { .. }
                | DialError::ProxyAnswer { .. },
            ) => DialFailure::Other,
            Self::Unix { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused => DialFailure::Refused,
                io::ErrorKind::TimedOut => DialFailure::Timeout,
                io::ErrorKind::NotFound => DialFailure::NoSuchSocket,
                io::ErrorKind::PermissionDenied => DialFailure::PermissionDenied,
                _ => DialFailure::Other,
            },
        }
    }
}

impl Target {
    /// Connects to it, directly and not through any proxy: targets are local.
    pub async fn connect(&self, within: Duration) -> Result<Connection, TargetError> {
        match self {
            Self::Tcp(address) | Self::Http(address) => {
                Ok(Connection::Tcp(dial::connect(address, within).await?))
            }
            Self::Unix(path) => {
                let connected = timeout(within, UnixStream::connect(path)).await;
                connected
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                    .map(Connection::Unix)
                    .map_err(|source| TargetError::Unix { path: path.clone(), source })
            }
        }
    }
}

/// A connection to a target.
#[derive(Debug)]
pub enum Connection {
    /// To a TCP or HTTP one.
    Tcp(TcpStream),
    /// To a unix socket.
    Unix(UnixStream),
}

impl Local for Connection {
    fn reset(&mut self) {
        match self {
            Self::Tcp(stream) => stream.reset(),
            Self::Unix(stream) => stream.reset(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    fn service(text: &str) -> Service {
        text.parse().expect("a service")
    }

    #[test]
    fn targets_are_tcp_http_or_unix() {
        for (text, kind, target) in [
            ("db=127.0.0.1:5432", ServiceKind::Tcp, "127.0.0.1:5432"),
            ("web=http://localhost:8080/", ServiceKind::Http, "http://localhost:8080"),
            ("web=http://site.local", ServiceKind::Http, "http://site.local:80"),
            ("v6=http://[::1]", ServiceKind::Http, "http://[::1]:80"),
            ("docker=unix:///var/run/docker.sock", ServiceKind::Unix, "unix:///var/run/docker.sock"),
        ] {
            let announced = service(text).announced();
            assert_eq!((announced.kind, announced.target.as_str()), (kind, target), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_service_is_said() {
        for (text, word) in [
            ("8080", "NAME=TARGET"),
            ("Web=127.0.0.1:80", "service name"),
            ("web=127.0.0.1", "HOST:PORT"),
            ("web=http://127.0.0.1:80/path", "path"),
            ("web=https://127.0.0.1:443", "TLS"),
            ("docker=unix://docker.sock", "absolute"),
        ] {
            let error = text.parse::<Service>().expect_err(text).to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn two_services_of_one_name_are_refused() {
        let twice = [service("a=h:1"), service("b=h:2"), service("a=h:3")];
        assert!(matches!(check(&twice), Err(ServiceError::Duplicate(name)) if name.as_str() == "a"));
        let many: Vec<_> = (0..=MAX_SERVICES).map(|n| service(&format!("s{n}=h:1"))).collect();
        assert!(matches!(check(&many), Err(ServiceError::TooMany(_))));
        assert!(check(&many[1..]).is_ok());
    }

    async fn failure(text: &str) -> DialFailure {
        service(text).target.connect(DIAL_TIMEOUT).await.expect_err("nothing there").failure()
    }

    #[tokio::test]
    async fn failed_dials_have_a_reason() {
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
        assert_eq!(failure(&format!("a={free}")).await, DialFailure::Refused);
        assert_eq!(failure("a=does-not-exist.invalid:80").await, DialFailure::NoSuchHost);
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("s");
        let unix = format!("a=unix://{}", socket.display());
        assert_eq!(failure(&unix).await, DialFailure::NoSuchSocket);
        drop(UnixListener::bind(&socket).expect("a socket"));
        assert_eq!(failure(&unix).await, DialFailure::Refused);
    }

    #[tokio::test]
    async fn both_kinds_of_sockets_are_reached() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let _unix = UnixListener::bind(&path).expect("a socket");
        let address = tcp.local_addr().expect("bound");
        for text in
            [format!("a={address}"), format!("a=http://{address}"), format!("a=unix://{}", path.display())]
        {
            service(&text).target.connect(DIAL_TIMEOUT).await.expect("somebody listens");
        }
    }
}
