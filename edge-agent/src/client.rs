//! The agent's side of the check-in: one kept connection, made anew when it breaks. It speaks HTTP/2 where TLS agrees on
//! that, else HTTP/1.1; what goes over it is [`shared::line`]'s.
//!
//! The rule: nothing here waits for ever, and nothing here decides. Every answer becomes an [`Outcome`], and what follows
//! from it is [`crate::lifecycle`]'s business.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use shared::dial::{self, DialError, Dialer};
use shared::host_port::HostPort;
use shared::join_token::JoinToken;
use shared::line::{self, Caller, Line, LineError, Protocol};
use shared::tls::{self, PinMismatch, TlsError};
use shared::wire::check_in::{Answer, CheckIn, FailedOffer, Hello, Identity, Need, SNAPSHOT_PATH};
use shared::wire::date;
use shared::wire::problem::Problem;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::lifecycle::{BRIEF, Outcome, Pace, Refusal, RefusalKind, Sent};

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
/// How much longer than it may be held an answer may take: what is left of the usual patience on a kept connection.
const HOLD_GRACE: Duration = Duration::from_secs(10);
/// Longest wait until a snapshot is stored: 20 s in line at the gateway, 30 s over a slow link, and its disk.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(55);

/// Where a gateway says that it lives.
const HEALTH_PATH: &str = "/healthz";

fn tls_timeout(pace: Pace) -> Duration {
    match pace {
        Pace::Usual | Pace::Following => TLS_TIMEOUT,
        Pace::Eager => EAGER_TIMEOUT,
    }
}

fn answer_timeout(pace: Pace) -> Duration {
    match pace {
        Pace::Usual | Pace::Following => ANSWER_TIMEOUT,
        Pace::Eager => EAGER_TIMEOUT,
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
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    dialer: Dialer,
    caller: Caller,
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
    Line { address: HostPort, source: LineError },
    #[error("{address} did not answer within {} s", .after.as_secs())]
    Timeout { address: HostPort, after: Duration },
}

impl RequestError {
    /// Whether something at the gateway's address answered.
    fn shows_life(&self) -> bool {
        match self {
            Self::Dial(error) => error.is_refusal(),
            Self::Handshake { .. } | Self::Pin(_) | Self::Line { .. } => true,
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
            let mut config = Arc::unwrap_or_clone(tls::client_config(&token.tls_pins, ca_file)?);
            config.alpn_protocols = Protocol::offered();
            Some((Arc::new(config), name))
        } else {
            None
        };
        let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
        let caller = Caller::new(scheme, authority.as_str(), identity).map_err(|_| wrong())?;
        Ok(Self { address: HostPort { host, port }, tls, dialer, caller })
    }

    /// Where the gateway's API is.
    pub fn address(&self) -> &HostPort {
        &self.address
    }

    async fn connect(&self, pace: Pace) -> Result<Line, RequestError> {
        let stream = match pace {
            Pace::Usual | Pace::Following => self.dialer.dial(&self.address).await?,
            Pace::Eager => self.dialer.dial_eagerly(&self.address).await?,
        };
        dial::watch(&stream).map_err(|source| DialError::Connect { target: self.address.clone(), source })?;
        let Some((config, name)) = &self.tls else {
            return Line::open(stream, Protocol::Http1).await.map_err(|source| self.broke_off(source));
        };
        let connecting = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream);
        match timeout(tls_timeout(pace), connecting).await {
            Ok(Ok(stream)) => {
                let protocol = Protocol::agreed(stream.get_ref().1.alpn_protocol());
                Line::open(stream, protocol).await.map_err(|source| self.broke_off(source))
            }
            Ok(Err(source)) => Err(match PinMismatch::find(&source) {
                Some(mismatch) => RequestError::Pin(mismatch.clone()),
                None => RequestError::Handshake { address: self.address.clone(), source },
            }),
            Err(_) => {
                let after = tls_timeout(pace);
                Err(RequestError::HandshakeTimeout { address: self.address.clone(), after })
            }
        }
    }

    fn broke_off(&self, source: LineError) -> RequestError {
        RequestError::Line { address: self.address.clone(), source }
    }

    async fn exchange(
        &self,
        line: &mut Line,
        request: Request<Full<Bytes>>,
        within: Duration,
    ) -> Result<line::Answer, RequestError> {
        match timeout(within, line.exchange(request)).await {
            Ok(answer) => answer.map_err(|source| self.broke_off(source)),
            Err(_) => Err(RequestError::Timeout { address: self.address.clone(), after: within }),
        }
    }

    /// What time it is at the gateway, if it is one and can be reached; an error is a sentence. Shows no authorization.
    pub async fn look(&self) -> Result<Option<SystemTime>, String> {
        let look = async {
            let mut line = self.connect(Pace::Usual).await?;
            let request = self.caller.get(line.protocol(), HEALTH_PATH);
            self.exchange(&mut line, request, ANSWER_TIMEOUT).await
        };
        let answer = look.await.map_err(|error: RequestError| error.to_string())?;
        if answer.status.is_success() { Ok(date(&answer.headers)) } else { Err(detail(&answer)) }
    }

    /// Sends a snapshot, compressed with gzip, over a connection of its own: a check-in must not wait behind it.
    pub async fn put_snapshot(&self, gzip: Bytes) -> Sent {
        let send = async {
            let mut line = self.connect(Pace::Usual).await?;
            let mut request = self.caller.post(line.protocol(), SNAPSHOT_PATH, gzip);
            let headers = request.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            self.exchange(&mut line, request, SNAPSHOT_TIMEOUT).await
        };
        match send.await {
            Ok(answer) => delivered(&answer),
            Err(error) => {
                let error: RequestError = error;
                Sent::Failed { reason: error.to_string(), retry_after: None }
            }
        }
    }
}

/// Whether a later try can have another answer than this one.
fn delivered(answer: &line::Answer) -> Sent {
    let for_now = answer.status.is_server_error()
        || matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    if answer.status.is_success() {
        Sent::Stored
    } else if for_now {
        Sent::Failed { reason: detail(answer), retry_after: retry_after(&answer.headers) }
    } else {
        Sent::Refused { reason: detail(answer) }
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Said with the first question of a connection, and when the gateway wanted it.
    pub hello: Hello,
    /// What became of the last offer.
    pub failed: Option<FailedOffer>,
    /// How it goes about it.
    pub pace: Pace,
    /// For how long it may be held, if it may.
    pub wait: Option<Duration>,
}

/// Checks in. One question at a time; dropping the future of one gives it up.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    line: Option<Line>,
    hello_wanted: bool,
}

/// An answer, or why there is none, and how long the question was out.
struct Asked {
    result: Result<line::Answer, RequestError>,
    after: Duration,
    /// Over a new connection, after the kept one had failed.
    rerouted: bool,
}

impl Asked {
    /// Whether the question never got to anybody: a connection that was idle is closed or forgotten by the gateway, or by
    /// something on the way, without a word. That is no trouble yet.
    fn was_in_vain(&self, wait: Option<Duration>) -> bool {
        match &self.result {
            Err(RequestError::Line { .. }) => self.after < BRIEF || wait.is_none(),
            Err(RequestError::Timeout { .. }) => wait.is_none(),
            Err(_) | Ok(_) => false,
        }
    }
}

impl Client {
    /// Not connected yet.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, line: None, hello_wanted: true }
    }

    /// One check-in.
    pub async fn check_in(&mut self, question: &Question) -> Outcome {
        if question.pace == Pace::Eager || self.line.as_ref().is_some_and(Line::is_spent) {
            self.line = None;
        }
        let asked = match (self.line.is_some(), question.pace) {
            (true, Pace::Usual) => {
                let asked = self.ask(question, KEPT_TIMEOUT).await;
                if asked.was_in_vain(question.wait) {
                    Asked { rerouted: true, ..self.ask_anew(question).await }
                } else {
                    asked
                }
            }
            (true, Pace::Following) => self.ask(question, KEPT_TIMEOUT).await,
            (false, Pace::Following) => {
                let reason = format!("{} closed the connection", self.endpoint.address);
                return Outcome::Cut { reason, after: Duration::ZERO };
            }
            (true | false, Pace::Eager) | (false, Pace::Usual) => self.ask_anew(question).await,
        };
        self.understand(asked, question)
    }

    async fn ask_anew(&mut self, question: &Question) -> Asked {
        self.hello_wanted = true;
        match self.endpoint.connect(question.pace).await {
            Ok(line) => {
                self.line = Some(line);
                self.ask(question, answer_timeout(question.pace)).await
            }
            Err(error) => Asked { result: Err(error), after: Duration::ZERO, rerouted: false },
        }
    }

    /// Asks on the connection that there is, which is kept only if everything goes well with it. A question that may be
    /// held has the time that it asks for; all others have `within`.
    async fn ask(&mut self, question: &Question, within: Duration) -> Asked {
        let line = self.line.as_mut().expect("every caller has one");
        let check_in = CheckIn {
            hello: self.hello_wanted.then(|| question.hello.clone()),
            failed: question.failed.clone(),
        };
        let report = (check_in != CheckIn::default()).then(|| {
            serde_json::to_vec(&check_in)
                .expect("strings, numbers and lists have no failing serializer")
                .into()
        });
        let request = self.endpoint.caller.check_in(line.protocol(), question.wait, report);
        let within = question.wait.map_or(within, |wait| wait + HOLD_GRACE);
        let began = Instant::now();
        let result = self.endpoint.exchange(line, request, within).await;
        if result.is_err() {
            self.line = None;
        }
        Asked { result, after: began.elapsed(), rerouted: false }
    }

    fn understand(&mut self, asked: Asked, question: &Question) -> Outcome {
        let Asked { result, after, rerouted } = asked;
        let may_be_cut = question.wait.is_some() || question.pace == Pace::Following;
        let answer = match result {
            Ok(answer) => answer,
            Err(RequestError::Pin(mismatch)) => {
                return Outcome::Refused(Refusal { kind: RefusalKind::TlsPin, detail: mismatch.to_string() });
            }
            Err(error @ (RequestError::Line { .. } | RequestError::Timeout { .. })) if may_be_cut => {
                return Outcome::Cut { reason: error.to_string(), after };
            }
            Err(error) => {
                let reached = error.shows_life();
                return Outcome::Trouble { reason: error.to_string(), retry_after: None, reached };
            }
        };
        let holds = answer.holds();
        let refused = |kind| Outcome::Refused(Refusal { kind, detail: detail(&answer) });
        match answer.status {
            StatusCode::NO_CONTENT => {
                self.hello_wanted = false;
                Outcome::Answered { interval: None, offer: None, holds, rerouted }
            }
            StatusCode::OK => match serde_json::from_slice::<Answer>(&answer.body) {
                Ok(answer) => {
                    self.hello_wanted = answer.hello_wanted;
                    understood(answer, holds, rerouted)
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
            _ if may_be_cut && after >= BRIEF && is_a_proxys(&answer) => {
                Outcome::Cut { reason: detail(&answer), after }
            }
            _ => Outcome::Trouble {
                reason: detail(&answer),
                retry_after: retry_after(&answer.headers),
                reached: true,
            },
        }
    }
}

/// Whether something on the way has lost its patience with the gateway, which would have given a reason.
fn is_a_proxys(answer: &line::Answer) -> bool {
    let impatient = matches!(
        answer.status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    impatient && serde_json::from_slice::<Problem>(&answer.body).is_err()
}

/// Bounds of the interval (`interval_s`): what a gateway says beyond them is taken as the nearest.
const INTERVALS: (u32, u32) = (1, 86_400);

fn understood(answer: Answer, holds: bool, rerouted: bool) -> Outcome {
    let interval = Duration::from_secs(answer.interval_s.clamp(INTERVALS.0, INTERVALS.1).into());
    let offer = match answer.need {
        Need::Tunnel => answer.offer,
        Need::None => None,
    };
    Outcome::Answered { interval: Some(interval), offer, holds, rerouted }
}

/// What the gateway said, or, if something else answered, that it did.
fn detail(answer: &line::Answer) -> String {
    let status = answer.status;
    match serde_json::from_slice::<Problem>(&answer.body) {
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
