//! The agent's side of the check-in: one kept HTTP/1.1 connection, made anew when it breaks.
//!
//! The rule: nothing here waits for ever, and nothing here decides. Every answer becomes an [`Outcome`], and what follows
//! from it is [`crate::lifecycle`]'s business.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use shared::dial::{DialError, Dialer};
use shared::host_port::HostPort;
use shared::join_token::JoinToken;
use shared::tls::{self, PinMismatch, TlsError};
use shared::wire::check_in::{
    Answer, CheckIn, FailedOffer, Hello, INSTANCE_HEADER, Identity, MAX_BODY, Need, PATH, SNAPSHOT_PATH,
};
use shared::wire::date;
use shared::wire::problem::Problem;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::lifecycle::{Outcome, Refusal, RefusalKind, Sent};

/// Longest wait for a TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for an answer. The gateway answers from memory, except for a first binding, which waits for its disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for an answer on a kept connection. The binding is behind us there, so silence means that something on
/// the way has forgotten the connection; a new one is tried then.
const KEPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a TLS handshake, and for an answer, while somebody may be waiting for this agent: enough for the few
/// round trips of a slow satellite link, and not for a network that went away again.
const EAGER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait until a snapshot is stored: 20 s in line at the gateway, 30 s over a slow link, and its disk.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(55);

/// Where a gateway says that it lives.
const HEALTH_PATH: &str = "/healthz";

/// How a check-in goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Over the kept connection, with patience.
    Usual,
    /// Somebody may be waiting, and the network was broken: over a new connection, dialled again every second.
    Eager,
}

impl Pace {
    fn tls_timeout(self) -> Duration {
        match self {
            Self::Usual => TLS_TIMEOUT,
            Self::Eager => EAGER_TIMEOUT,
        }
    }

    fn answer_timeout(self) -> Duration {
        match self {
            Self::Usual => ANSWER_TIMEOUT,
            Self::Eager => EAGER_TIMEOUT,
        }
    }
}

/// Why there is no client for this join token.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The token's API address makes no sense.
    #[error(
        "the join token's API address {0:?} is not http(s)://HOST:PORT: get a new join token from the gateway's admin"
    )]
    ApiUrl(String),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Where the gateway is, and how it is reached and recognised. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Endpoint {
    address: HostPort,
    host: HeaderValue,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    dialer: Dialer,
    authorization: HeaderValue,
    instance: HeaderValue,
}

/// A check-in that did not get an answer.
#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("TLS with {address} failed: {source}")]
    Handshake { address: HostPort, source: io::Error },
    #[error(transparent)]
    Pin(PinMismatch),
    #[error("{address} did not finish its TLS handshake within {} s", .after.as_secs())]
    HandshakeTimeout { address: HostPort, after: Duration },
    #[error("{address} broke off: {source}")]
    Http { address: HostPort, source: hyper::Error },
    #[error("{address} did not answer within {} s", .after.as_secs())]
    Timeout { address: HostPort, after: Duration },
    #[error("the answer of {address} could not be read: {reason}")]
    Body { address: HostPort, reason: String },
}

impl RequestError {
    /// Whether something at the gateway's address answered.
    fn shows_life(&self) -> bool {
        match self {
            Self::Dial(error) => error.is_refusal(),
            Self::Handshake { .. } | Self::Pin(_) | Self::Http { .. } | Self::Body { .. } => true,
            Self::HandshakeTimeout { .. } | Self::Timeout { .. } => false,
        }
    }
}

impl Endpoint {
    /// The gateway of this token, as `identity`.
    pub fn new(
        token: &JoinToken,
        identity: &Identity,
        ca_file: Option<&Path>,
        dialer: Dialer,
    ) -> Result<Self, ClientError> {
        let wrong = || ClientError::ApiUrl(token.api_url.clone());
        let uri: Uri = token.api_url.parse().map_err(|_| wrong())?;
        let authority =
            uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(wrong()),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = if secure {
            let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
            Some((tls::client_config(&token.tls_pins, ca_file)?, name))
        } else {
            None
        };
        let mut authorization = HeaderValue::try_from(identity.authorization.expose())
            .expect("a UUID and base64url are visible ASCII");
        authorization.set_sensitive(true);
        Ok(Self {
            address: HostPort { host, port },
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?,
            tls,
            dialer,
            authorization,
            instance: HeaderValue::try_from(identity.instance.to_string()).expect("a UUID is visible ASCII"),
        })
    }

    /// Where the gateway's API is.
    pub fn address(&self) -> &HostPort {
        &self.address
    }

    async fn connect(&self, pace: Pace) -> Result<SendRequest<Full<Bytes>>, RequestError> {
        let stream = match pace {
            Pace::Usual => self.dialer.dial(&self.address).await?,
            Pace::Eager => self.dialer.dial_eagerly(&self.address).await?,
        };
        let Some((config, name)) = &self.tls else { return self.speak(stream).await };
        let connecting = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream);
        match timeout(pace.tls_timeout(), connecting).await {
            Ok(Ok(stream)) => self.speak(stream).await,
            Ok(Err(source)) => Err(match PinMismatch::find(&source) {
                Some(mismatch) => RequestError::Pin(mismatch.clone()),
                None => RequestError::Handshake { address: self.address.clone(), source },
            }),
            Err(_) => Err(RequestError::HandshakeTimeout {
                address: self.address.clone(),
                after: pace.tls_timeout(),
            }),
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<SendRequest<Full<Bytes>>, RequestError> {
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|source| self.broke_off(source))?;
        // Ends with its sender or its socket; what goes wrong shows at the request.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn broke_off(&self, source: hyper::Error) -> RequestError {
        RequestError::Http { address: self.address.clone(), source }
    }

    fn request(
        &self,
        path: &'static str,
        content_type: Option<&'static str>,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        headers.insert(INSTANCE_HEADER, self.instance.clone());
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        request
    }

    async fn exchange(
        &self,
        sender: &mut SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
        within: Duration,
    ) -> Result<(StatusCode, HeaderMap, Bytes), RequestError> {
        let exchange = async {
            sender.ready().await.map_err(|source| self.broke_off(source))?;
            let answer = sender.send_request(request).await.map_err(|source| self.broke_off(source))?;
            self.read(answer).await
        };
        timeout(within, exchange)
            .await
            .unwrap_or_else(|_| Err(RequestError::Timeout { address: self.address.clone(), after: within }))
    }

    async fn read(&self, answer: Response<Incoming>) -> Result<(StatusCode, HeaderMap, Bytes), RequestError> {
        let (head, body) = answer.into_parts();
        match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => Ok((head.status, head.headers, body.to_bytes())),
            Err(error) => {
                Err(RequestError::Body { address: self.address.clone(), reason: error.to_string() })
            }
        }
    }

    /// What time it is at the gateway, if it is one and can be reached; an error is a sentence. Shows no authorization.
    pub async fn look(&self) -> Result<Option<SystemTime>, String> {
        let look = async {
            let mut sender = self.connect(Pace::Usual).await?;
            let mut request = Request::new(Full::default());
            *request.uri_mut() = Uri::from_static(HEALTH_PATH);
            request.headers_mut().insert(header::HOST, self.host.clone());
            self.exchange(&mut sender, request, ANSWER_TIMEOUT).await
        };
        let (status, headers, body) = look.await.map_err(|error: RequestError| error.to_string())?;
        if status.is_success() { Ok(date(&headers)) } else { Err(detail(status, &body)) }
    }

    /// Sends a snapshot, compressed with gzip, over a connection of its own: a check-in must not wait behind it.
    pub async fn put_snapshot(&self, gzip: Bytes) -> Sent {
        let send = async {
            let mut sender = self.connect(Pace::Usual).await?;
            let mut request = self.request(SNAPSHOT_PATH, Some("application/json"), gzip);
            request.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            self.exchange(&mut sender, request, SNAPSHOT_TIMEOUT).await
        };
        match send.await {
            Ok((status, headers, body)) => delivered(status, &headers, &body),
            Err(error) => {
                let error: RequestError = error;
                Sent::Failed { reason: error.to_string(), retry_after: None }
            }
        }
    }
}

/// Whether a later try can have another answer than this one.
fn delivered(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Sent {
    let for_now = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    if status.is_success() {
        Sent::Stored
    } else if for_now {
        Sent::Failed { reason: detail(status, body), retry_after: retry_after(headers) }
    } else {
        Sent::Refused { reason: detail(status, body) }
    }
}

/// Checks in. One at a time.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    connection: Option<SendRequest<Full<Bytes>>>,
    hello_wanted: bool,
}

impl Client {
    /// Not connected yet.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, connection: None, hello_wanted: true }
    }

    /// One check-in. `hello` goes along with the first one of a connection, and when the gateway wanted it.
    pub async fn check_in(&mut self, hello: Hello, failed: Option<FailedOffer>, pace: Pace) -> Outcome {
        let kept = self.connection.take().filter(|connection| !connection.is_closed());
        let mut rerouted = false;
        let result = match (kept, pace) {
            (Some(connection), Pace::Usual) => {
                match self.ask(connection, &hello, &failed, KEPT_TIMEOUT).await {
                    // The gateway, or something on the way, closed or forgot a connection that was idle: that is no trouble
                    // yet.
                    Err(RequestError::Http { .. } | RequestError::Timeout { .. }) => {
                        rerouted = true;
                        self.ask_anew(&hello, &failed, pace).await
                    }
                    result => result,
                }
            }
            (_, Pace::Eager) | (None, Pace::Usual) => self.ask_anew(&hello, &failed, pace).await,
        };
        match result {
            Ok((status, headers, body)) => self.understand(status, &headers, &body, rerouted),
            Err(RequestError::Pin(mismatch)) => {
                Outcome::Refused(Refusal { kind: RefusalKind::TlsPin, detail: mismatch.to_string() })
            }
            Err(error) => {
                Outcome::Trouble { reason: error.to_string(), retry_after: None, reached: error.shows_life() }
            }
        }
    }

    async fn ask_anew(
        &mut self,
        hello: &Hello,
        failed: &Option<FailedOffer>,
        pace: Pace,
    ) -> Result<(StatusCode, HeaderMap, Bytes), RequestError> {
        self.hello_wanted = true;
        let connection = self.endpoint.connect(pace).await?;
        self.ask(connection, hello, failed, pace.answer_timeout()).await
    }

    /// The connection is kept only if everything went well with it.
    async fn ask(
        &mut self,
        mut connection: SendRequest<Full<Bytes>>,
        hello: &Hello,
        failed: &Option<FailedOffer>,
        within: Duration,
    ) -> Result<(StatusCode, HeaderMap, Bytes), RequestError> {
        let check_in = CheckIn { hello: self.hello_wanted.then(|| hello.clone()), failed: failed.clone() };
        let request = if check_in == CheckIn::default() {
            self.endpoint.request(PATH, None, Bytes::new())
        } else {
            let body =
                serde_json::to_vec(&check_in).expect("strings, numbers and lists have no failing serializer");
            self.endpoint.request(PATH, Some("application/json"), body.into())
        };
        let answer = self.endpoint.exchange(&mut connection, request, within).await?;
        self.connection = Some(connection);
        Ok(answer)
    }

    fn understand(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        rerouted: bool,
    ) -> Outcome {
        let refused = |kind| Outcome::Refused(Refusal { kind, detail: detail(status, body) });
        match status {
            StatusCode::NO_CONTENT => {
                self.hello_wanted = false;
                Outcome::Answered { interval: None, offer: None, rerouted }
            }
            StatusCode::OK => match serde_json::from_slice::<Answer>(body) {
                Ok(answer) => {
                    self.hello_wanted = answer.hello_wanted;
                    understood(answer, rerouted)
                }
                Err(error) => Outcome::Trouble {
                    reason: format!("{} gave an answer that is none: {error}", self.endpoint.address),
                    retry_after: None,
                    reached: true,
                },
            },
            StatusCode::UNAUTHORIZED => refused(RefusalKind::UnknownKey),
            StatusCode::FORBIDDEN => refused(RefusalKind::BoundToAnother),
            StatusCode::CONFLICT => refused(RefusalKind::SecondInstance),
            StatusCode::UPGRADE_REQUIRED => refused(RefusalKind::Protocol),
            other => Outcome::Trouble {
                reason: detail(other, body),
                retry_after: retry_after(headers),
                reached: true,
            },
        }
    }
}

/// Bounds of the interval (`interval_s`): what a gateway says beyond them is taken as the nearest.
const INTERVALS: (u32, u32) = (1, 86_400);

fn understood(answer: Answer, rerouted: bool) -> Outcome {
    let interval = Duration::from_secs(answer.interval_s.clamp(INTERVALS.0, INTERVALS.1).into());
    let offer = match answer.need {
        Need::Tunnel => answer.offer,
        Need::None => None,
    };
    Outcome::Answered { interval: Some(interval), offer, rerouted }
}

/// What the gateway said, or, if something else answered, that it did.
fn detail(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => format!("{} ({}, {})", problem.detail, status.as_u16(), problem.code),
        Err(_) => format!(
            "the answer was {status}, without a reason: something between agent and gateway may have given it"
        ),
    }
}

/// Seconds only: dates depend on clocks, which edges often have wrong.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
