//! The operator's HTTP client: one connection for each request, verified by the pinned key or by the system's roots.
//!
//! The rule: the API token goes to the gateway of `TIDEGATE_URL` only, after TLS has shown that it is that one, and
//! over plain HTTP only to this machine.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::dial::Dialer;
use shared::fingerprint::TlsFingerprint;
use shared::host_port::HostPort;
use shared::secret::Secret;
use shared::tls::{self, PinMismatch};
use shared::tunnel::carry::Local;
use shared::wire::problem::{self, Problem};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::exit::CliError;

/// Longest wait for a TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for an answer that takes the gateway no work: its disk may stall for a while.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest JSON answer: a snapshot has at most 8 MiB.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// How a command reaches the gateway. The API token comes from `TIDEGATE_TOKEN` or a file, never from a flag, which
/// every user of the machine could read.
#[derive(Args, Clone, Debug)]
#[command(after_help = "The API token comes from --token-file or the environment variable TIDEGATE_TOKEN.")]
pub struct Access {
    /// The gateway, such as https://gate.example.com:9000
    #[arg(long, env = "TIDEGATE_URL", default_value = "https://127.0.0.1:9000")]
    url: String,
    /// File with the API token; goes before TIDEGATE_TOKEN
    #[arg(long, env = "TIDEGATE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<String>,
    /// Fingerprint of the gateway's TLS key, as its log shows it on start; without one its certificate must verify
    #[arg(long, env = "TIDEGATE_TLS_FINGERPRINT", value_name = "sha256//...", value_delimiter = ',')]
    tls_fingerprint: Vec<String>,
    /// Certificates (PEM) to trust besides the system's roots
    #[arg(long, env = "TIDEGATE_CA_FILE", value_name = "FILE")]
    ca_file: Option<String>,
}

impl Access {
    /// The client for it.
    pub fn client(&self) -> Result<Client, CliError> {
        let token = self.token()?;
        let pins = self.tls_fingerprint.iter().filter(|text| !text.is_empty());
        let pins: Result<Vec<TlsFingerprint>, _> = pins.map(|text| text.trim().parse()).collect();
        let pins =
            pins.map_err(|error| CliError::Configuration(format!("TIDEGATE_TLS_FINGERPRINT: {error}")))?;
        let target = Target::parse(&self.url)?;
        let tls = if target.secure {
            let ca_file = self.ca_file.as_deref().filter(|file| !file.is_empty()).map(str::as_ref);
            Some(
                tls::client_config(&pins, ca_file)
                    .map_err(|error| CliError::Configuration(error.to_string()))?,
            )
        } else {
            target.check_plain(&pins)?;
            None
        };
        Client::new(target, tls, Some(&token), Dialer::from_environment())
    }

    fn token(&self) -> Result<Secret<String>, CliError> {
        let text = match self.token_file.as_deref().filter(|file| !file.is_empty()) {
            Some(file) => std::fs::read_to_string(file).map_err(|error| {
                CliError::Configuration(format!("can't read the API token from {file}: {error}"))
            })?,
            None => std::env::var("TIDEGATE_TOKEN").unwrap_or_default(),
        };
        if text.trim().is_empty() {
            let hint = "no API token is given: set TIDEGATE_TOKEN, or name its file with --token-file or \
                        TIDEGATE_TOKEN_FILE (`tidegate serve --bootstrap-token-file` makes the first one)";
            return Err(CliError::Configuration(hint.to_owned()));
        }
        Ok(Secret::new(text.trim().to_owned()))
    }
}

/// The gateway that a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    secure: bool,
    address: HostPort,
    host: String,
}

impl Target {
    /// From scheme, host and port; a path makes no sense, since there is one API.
    pub fn parse(url: &str) -> Result<Self, CliError> {
        let wrong = || {
            CliError::Configuration(format!(
                "TIDEGATE_URL: {url:?} is not a URL such as https://gate.example.com:9000"
            ))
        };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(wrong()),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.host().is_empty() {
            return Err(wrong());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { secure, address: HostPort { host, port }, host: authority.to_string() })
    }

    /// A token and what is done with it must not cross a network in the clear.
    fn check_plain(&self, pins: &[TlsFingerprint]) -> Result<(), CliError> {
        let host = &self.address.host;
        let local = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if !local {
            let text =
                format!("TIDEGATE_URL: the API token is not sent to {host} over plain HTTP; use https://");
            return Err(CliError::Configuration(text));
        }
        if pins.is_empty() {
            return Ok(());
        }
        Err(CliError::Configuration("TIDEGATE_TLS_FINGERPRINT needs a TIDEGATE_URL with https://".to_owned()))
    }
}

/// A gateway, and how it is reached and recognised. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    target: Target,
    host: HeaderValue,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    authorization: Option<HeaderValue>,
    dialer: Dialer,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("target", &self.target).finish_non_exhaustive()
    }
}

/// No body in the request, nothing to read in the answer.
pub const NOTHING: Option<&()> = None;

impl Client {
    /// For `target`, with TLS where a configuration is given.
    pub fn new(
        target: Target,
        tls: Option<Arc<ClientConfig>>,
        token: Option<&Secret<String>>,
        dialer: Dialer,
    ) -> Result<Self, CliError> {
        let malformed = |what| CliError::Configuration(format!("{what} has characters that it can't have"));
        let tls = match tls {
            Some(config) => {
                let name = ServerName::try_from(target.address.host.clone())
                    .map_err(|_| malformed("TIDEGATE_URL"))?;
                Some((config, name))
            }
            None => None,
        };
        let authorization = match token {
            Some(token) => {
                let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
                let mut value = value.map_err(|_| malformed("the API token"))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let host = HeaderValue::from_str(&target.host).map_err(|_| malformed("TIDEGATE_URL"))?;
        Ok(Self { target, host, tls, authorization, dialer })
    }

    /// Asks for JSON and gives up after a while.
    pub async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<A, CliError> {
        let late = || self.unreachable(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()));
        timeout(ANSWER_TIMEOUT, self.call_patiently(method, path, body)).await.unwrap_or_else(|_| Err(late()))
    }

    /// Asks for JSON that the gateway has to wait for: it bounds the time itself, by the edge's interval.
    pub async fn call_patiently<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<A, CliError> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            let json =
                serde_json::to_vec(body).map_err(|error| CliError::failed("can't write JSON", error))?;
            *request.body_mut() = Full::new(json.into());
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let answer = self.send(request).await?;
        let bytes = self.read(answer).await?;
        // An answer without a body stands for `()`, which is `null` in JSON.
        let json: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(json).map_err(|error| {
            CliError::Failed(format!(
                "the gateway's answer makes no sense ({error}): is it of another version?"
            ))
        })
    }

    /// Asks for something large: the answer's body comes as it arrives.
    pub async fn download(&self, path: &str) -> Result<Incoming, CliError> {
        Ok(self.send(self.request(Method::GET, path)).await?.into_body())
    }

    /// Turns a connection into a stream of bytes: `connection: upgrade`, `upgrade: tcp`.
    pub async fn upgrade(&self, path: &str) -> Result<Upgraded, CliError> {
        let mut request = self.request(Method::GET, path);
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("tcp"));
        let answer = self.send(request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(CliError::Failed(format!("the gateway answered {} and no stream", answer.status())));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(|error| self.unreachable(error))?;
        let parts = upgraded.downcast::<TokioIo<Transport>>();
        let parts = parts.unwrap_or_else(|_| unreachable!("`converse` gives hyper no other type"));
        Ok(Upgraded { stream: parts.io.into_inner(), early: parts.read_buf })
    }

    fn request(&self, method: Method, path: &str) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() =
            path.parse().expect("paths are made of literals, names, ids and encoded queries");
        request.headers_mut().insert(header::HOST, self.host.clone());
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        request
    }

    /// Asks, and takes any answer as one: for health, where an error is an answer too. Gives up after a while.
    pub async fn probe(&self, path: &str) -> Result<(StatusCode, Bytes), CliError> {
        let probe = async {
            let answer = self.exchange(self.request(Method::GET, path)).await?;
            Ok((answer.status(), self.read(answer).await?))
        };
        timeout(ANSWER_TIMEOUT, probe).await.unwrap_or_else(|_| Err(self.unreachable("no answer in time")))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, CliError> {
        let io = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = http1::handshake(io).await.map_err(|error| self.unreachable(error))?;
        // Ends with its sender or its socket; what goes wrong shows at the request.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(|error| self.unreachable(error))
    }

    /// The answer's head; an answer that is an error becomes one.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, CliError> {
        let answer = self.exchange(request).await?;
        if answer.status().is_success() || answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let (status, kind) = (answer.status(), answer.headers().get(header::CONTENT_TYPE).cloned());
        let body = self.read(answer).await?;
        if kind.is_some_and(|kind| kind == problem::CONTENT_TYPE)
            && let Ok(problem) = serde_json::from_slice::<Problem>(&body)
        {
            return Err(CliError::Problem(problem));
        }
        Err(CliError::Failed(format!("{} answered {status}: is it a Tidegate gateway?", self.target.address)))
    }

    async fn connect(&self) -> Result<Transport, CliError> {
        let dialled = self.dialer.dial(&self.target.address).await;
        let socket = dialled.map_err(|error| CliError::Unreachable(error.to_string()))?;
        let Some((config, name)) = &self.tls else { return Ok(Transport::Plain(socket)) };
        let connecting = TlsConnector::from(Arc::clone(config)).connect(name.clone(), socket);
        match timeout(TLS_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => Ok(Transport::Tls(Box::new(stream))),
            Ok(Err(error)) => Err(self.handshake_failed(&error)),
            Err(_) => Err(self.unreachable(format!("no TLS handshake within {} s", TLS_TIMEOUT.as_secs()))),
        }
    }

    fn handshake_failed(&self, error: &io::Error) -> CliError {
        if let Some(mismatch) = PinMismatch::find(error) {
            return CliError::Distrusted(mismatch.to_string());
        }
        match error.get_ref().and_then(|error| error.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(reason)) => CliError::Distrusted(format!(
                "the certificate of {} does not verify ({reason}): set TIDEGATE_TLS_FINGERPRINT to the fingerprint \
                 that the gateway logs on start",
                self.target.address
            )),
            Some(_) | None => self.unreachable(format!("TLS failed: {error}")),
        }
    }

    async fn read(&self, answer: Response<Incoming>) -> Result<Bytes, CliError> {
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        Ok(body.map_err(|error| self.unreachable(error))?.to_bytes())
    }

    fn unreachable(&self, cause: impl fmt::Display) -> CliError {
        CliError::Unreachable(format!("no answer from the gateway at {}: {cause}", self.target.address))
    }
}

/// A connection that became a stream.
#[derive(Debug)]
pub struct Upgraded {
    /// The stream.
    pub stream: Transport,
    /// What arrived of it together with the answer.
    pub early: Bytes,
}

/// A connection to the gateway. An orderly end of a direction and a reset look different from both sides: with TLS, an
/// end without close_notify is an error when read, and [`Local::reset`] sends none.
#[derive(Debug)]
pub enum Transport {
    /// To this machine only.
    Plain(TcpStream),
    /// To everywhere.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Local for Transport {
    fn reset(&mut self) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // Fails only on a socket that is closed already, which is what we are after.
        let _ = socket.set_zero_linger();
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(url: &str) -> Access {
        Access { url: url.into(), token_file: None, tls_fingerprint: vec![], ca_file: None }
    }

    #[test]
    fn urls_name_a_gateway_and_nothing_else() {
        let target = Target::parse("https://gate.example.com").expect("a URL");
        assert_eq!((target.secure, target.address.to_string().as_str()), (true, "gate.example.com:443"));
        let target = Target::parse("http://[::1]:9000/").expect("a URL");
        assert_eq!((target.secure, target.address.to_string().as_str()), (false, "[::1]:9000"));
        for bad in ["gate:9000", "ftp://gate", "https://gate/x", "https://a@gate", "https://", ""] {
            assert!(matches!(Target::parse(bad), Err(CliError::Configuration(_))), "{bad}");
        }
    }

    #[test]
    fn token_never_goes_over_plain_http_to_another_machine() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "tga_x\n").expect("written");
        let with_token = |url| Access { token_file: Some(file.display().to_string()), ..access(url) };
        for local in ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"] {
            assert!(with_token(local).client().is_ok(), "{local}");
        }
        let error = with_token("http://192.0.2.1:9000").client().expect_err("not this machine");
        assert!(error.to_string().contains("https://"), "{error}");
        let pin = TlsFingerprint::from_bytes([1; 32]).to_string();
        let pinned = Access { tls_fingerprint: vec![pin], ..with_token("http://127.0.0.1:9000") };
        assert!(pinned.client().is_err(), "a pin means nothing without TLS");
    }

    #[test]
    fn debug_of_a_client_shows_no_token() {
        let token = Secret::from("tga_secret");
        let target = Target::parse("http://127.0.0.1:1").expect("a URL");
        let client = Client::new(target, None, Some(&token), Dialer::direct()).expect("well-formed");
        assert!(!format!("{client:?}").contains("tga_secret"));
    }
}
