//! A Docker Engine behind an edge: an HTTP client of its API, through the tunnel.
//!
//! One connection, one stream of the tunnel, for as long as the operator may. The rule: nothing of what a request says gets
//! into a path but what [`ContainerName`] lets through, and nothing of an answer is kept but what has a bound.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use shared::engine::EngineContainer;
use shared::id::{EdgeName, ServiceName};
use shared::wire::admin::AuditVia;
use shared::wire::snapshot::Container;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::access::Operator;
use crate::audit::Entry;
use crate::http::ApiState;
use crate::http::peer::Peer;
use crate::http::problem::{Code, Problem, Result};

/// Largest answer that is read as a whole: some ten thousand containers.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// Largest word of an engine about what went wrong.
const MAX_MESSAGE: usize = 300;
/// Longest wait for an answer. An engine under load takes seconds to list its containers.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Longest wait for a container to start or stop: its own time to stop is 10 s unless it says otherwise.
const CHANGE_TIME: Duration = Duration::from_secs(120);
/// Longest name that an engine gives.
const MAX_NAME: usize = 253;

/// Name or id of a container, as engines allow them: nothing that means anything in a path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", extend("pattern" = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$"))]
pub struct ContainerName(String);

/// A text is no name of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the name or the id of a container: letters, digits, '_', '.' and '-', beginning with one of the former"
)]
pub struct NoName;

impl FromStr for ContainerName {
    type Err = NoName;

    fn from_str(text: &str) -> std::result::Result<Self, NoName> {
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let rest =
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        if first && rest && text.len() <= MAX_NAME { Ok(Self(text.to_owned())) } else { Err(NoName) }
    }
}

impl TryFrom<String> for ContainerName {
    type Error = NoName;

    fn try_from(text: String) -> std::result::Result<Self, NoName> {
        text.parse()
    }
}

impl std::fmt::Display for ContainerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What can be done to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Starts it.
    Start,
    /// Stops it.
    Stop,
    /// Stops it, if it runs, and starts it.
    Restart,
}

impl Act {
    /// As the engine's paths and ours have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// A log that is on its way.
#[derive(Debug)]
pub struct Log {
    /// Whether the container has a terminal, and its log no frames.
    pub terminal: bool,
    /// The log.
    pub body: Incoming,
    /// What it comes over; dropped, it ends.
    pub _connection: AbortOnDropHandle<()>,
}

/// A connection to an engine.
#[derive(Debug)]
pub struct Engine {
    sender: SendRequest<Empty<Bytes>>,
    connection: AbortOnDropHandle<()>,
    /// For whoever reads of a failure.
    service: ServiceName,
}

impl Engine {
    /// Connects to the engine behind a service; opens the tunnel where it is closed.
    pub async fn reach(
        state: &ApiState,
        peer: Peer,
        operator: &Operator,
        edge: &EdgeName,
        service: ServiceName,
    ) -> Result<Self> {
        let stream = state.open(edge, &service, operator).await?;
        let entry = Entry::new(operator.into(), "service.docker").from(peer.address);
        let entry = entry.edge(edge).service(&service).via(AuditVia::Proxy);
        state.audit.used(entry.clone());
        let audit = state.audit.clone();
        let io = stream.into_io_then(move |end| audit.carried(&entry, end.sent, end.received));
        Self::over(io, service).await
    }

    /// Speaks over `io`.
    pub(super) async fn over<I>(io: I, service: ServiceName) -> Result<Self>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) =
            handshake(TokioIo::new(io)).await.map_err(|error| bad_answer(&service, &error))?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // Its error reaches whoever waits for an answer.
            let _ = connection.await;
        }));
        Ok(Self { sender, connection, service })
    }

    /// All containers, running or not.
    pub async fn containers(&mut self) -> Result<Vec<Container>> {
        let containers: Vec<EngineContainer> = self.read("/containers/json?all=1").await?;
        Ok(containers.into_iter().map(Container::from).collect())
    }

    /// Does something to a container, and waits until it is done. What is done already is done.
    pub async fn act(&mut self, act: Act, container: &ContainerName) -> Result<()> {
        let path = format!("/containers/{container}/{}", act.name());
        let answer = self.ask(Method::POST, &path, CHANGE_TIME).await?;
        match answer.status() {
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Ok(()),
            status => Err(self.refusal(status, answer).await),
        }
    }

    /// The last `tail` lines of a container's log, and, to `follow`, those that come.
    pub async fn log(mut self, container: &ContainerName, tail: u32, follow: bool) -> Result<Log> {
        let about: About = self.read(&format!("/containers/{container}/json")).await?;
        let path = format!(
            "/containers/{container}/logs?stdout=1&stderr=1&timestamps=1&tail={tail}&follow={}",
            u8::from(follow)
        );
        let answer = self.ask(Method::GET, &path, ANSWER_TIME).await?;
        match answer.status() {
            StatusCode::OK => {
                Ok(Log { terminal: about.config.tty, body: answer.into_body(), _connection: self.connection })
            }
            status => Err(self.refusal(status, answer).await),
        }
    }

    async fn read<T: DeserializeOwned>(&mut self, path: &str) -> Result<T> {
        let answer = self.ask(Method::GET, path, ANSWER_TIME).await?;
        if answer.status() != StatusCode::OK {
            let status = answer.status();
            return Err(self.refusal(status, answer).await);
        }
        let body = timeout(ANSWER_TIME, Limited::new(answer.into_body(), MAX_ANSWER).collect()).await;
        let body = body.map_err(|_| self.too_slow(ANSWER_TIME))?;
        let body = body.map_err(|error| bad_answer(&self.service, &error))?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| bad_answer(&self.service, &error))
    }

    async fn ask(&mut self, method: Method, path: &str, time: Duration) -> Result<Response<Incoming>> {
        let request = Request::builder().method(method).uri(path).header(HOST, "docker").body(Empty::new());
        let request = request.map_err(Problem::internal)?;
        let exchange = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let answer = timeout(time, exchange).await;
        let answer = answer.map_err(|_| self.too_slow(time))?;
        answer.map_err(|error| bad_answer(&self.service, &error))
    }

    fn too_slow(&self, time: Duration) -> Problem {
        bad_answer(&self.service, &format_args!("it took more than {} s", time.as_secs()))
    }

    /// The engine's own words, where it has some.
    async fn refusal(&self, status: StatusCode, answer: Response<Incoming>) -> Problem {
        #[derive(Deserialize)]
        struct Message {
            message: String,
        }
        let body = timeout(ANSWER_TIME, Limited::new(answer.into_body(), MAX_ANSWER).collect()).await;
        let message = body.ok().and_then(std::result::Result::ok);
        let message = message.and_then(|body| serde_json::from_slice::<Message>(&body.to_bytes()).ok());
        let message: String =
            message.map(|said| said.message.chars().take(MAX_MESSAGE).collect()).unwrap_or_default();
        if status == StatusCode::NOT_FOUND {
            let detail = format!("the engine has no such container ({message}); list what it has");
            return Problem::new(Code::ContainerNotFound, detail);
        }
        bad_answer(&self.service, &format_args!("{status} {message}"))
    }
}

/// What is read of a container before its log.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct About {
    config: AboutConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AboutConfig {
    tty: bool,
}

fn bad_answer(service: &ServiceName, what: &dyn std::fmt::Display) -> Problem {
    Problem::new(Code::BadServiceAnswer, format!("the Docker Engine behind {service} did not do it: {what}"))
}
