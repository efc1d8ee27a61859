//! The operator's HTTP client: one connection for each request, verified by the pinned key or by the system's roots.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::dial::Dialer;
use shared::secret::Secret;
use shared::tls::PinMismatch;
use shared::wire::date;
use shared::wire::problem::{self, Problem};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use super::access::Target;
use super::edge::percent_encode;
use super::exit::CliError;
use super::transport::{Transport, Upgraded};

/// Longest wait for a TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for an answer that takes the gateway no work: its disk may stall for a while.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest JSON answer: a snapshot has at most 8 MiB.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Items of a list that are asked for at a time: as many as the gateway gives.
pub const PAGE: usize = 500;

/// `code` of the problem that something was changed since one looked.
pub const STALE: &str = "stale";
/// Names a request that makes something, so that it is done once however often it is asked.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How often something that is to be made is asked for where no answer comes, and the pause between two.
const TRIES: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_secs(2);

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

/// An answer, and when it was made by the gateway's clock.
#[derive(Clone, Debug)]
pub struct Dated<A> {
    /// What was asked for.
    pub value: A,
    /// The gateway's time.
    pub at: SystemTime,
    /// By which a change can be made only if nobody else made one since.
    pub version: Option<HeaderValue>,
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
        let host = HeaderValue::from_str(&target.authority).map_err(|_| malformed("TIDEGATE_URL"))?;
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

    /// Asks for every page of a list. `path` has a query already; `take` keeps a page and tells its `next`.
    pub async fn pages<A: DeserializeOwned>(
        &self,
        path: &str,
        mut take: impl FnMut(A) -> Option<String>,
    ) -> Result<(), CliError> {
        let mut after: Option<String> = None;
        loop {
            let path = match &after {
                Some(after) => format!("{path}&after={}", percent_encode(after)),
                None => path.to_owned(),
            };
            let next = take(self.call(Method::GET, &path, NOTHING).await?);
            // A page that does not move on would be asked for again for ever.
            if next.is_none() || next == after {
                return Ok(());
            }
            after = next;
        }
    }

    /// Asks for JSON that the gateway has to wait for: it bounds the time itself, by the edge's interval.
    pub async fn call_patiently<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<A, CliError> {
        let request = self.request_with(method, path, body)?;
        let answer = self.send(request).await?;
        understood(&self.read(answer.into_body()).await?)
    }

    /// As [`Client::call`], for what changes a thing: it is done to the thing as it was when it had this version, and is
    /// [`STALE`] if somebody changed it since.
    pub async fn change<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        change: Option<&impl Serialize>,
        version: Option<HeaderValue>,
    ) -> Result<A, CliError> {
        let mut request = self.request_with(method, path, change)?;
        if let Some(version) = version {
            request.headers_mut().insert(header::IF_MATCH, version);
        }
        self.asked(request).await
    }

    /// Makes something, once: where the answer is lost, it is asked for again under the same key.
    pub async fn make<A: DeserializeOwned>(&self, path: &str, new: &impl Serialize) -> Result<A, CliError> {
        let key = HeaderValue::try_from(Uuid::new_v4().to_string()).expect("a UUID is visible ASCII");
        let mut tries = 1;
        loop {
            let mut request = self.request_with(Method::POST, path, Some(new))?;
            request.headers_mut().insert(IDEMPOTENCY_KEY, key.clone());
            match self.asked(request).await {
                Err(CliError::Unreachable(_)) if tries < TRIES => tries += 1,
                result => return result,
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn asked<A: DeserializeOwned>(&self, request: Request<Full<Bytes>>) -> Result<A, CliError> {
        let ask = async { understood(&self.read(self.send(request).await?.into_body()).await?) };
        timeout(ANSWER_TIMEOUT, ask).await.unwrap_or_else(|_| Err(self.unreachable("no answer in time")))
    }

    /// What is at `path`, and what time it is there: an answer's times mean something only by the gateway's own clock.
    pub async fn look<A: DeserializeOwned>(&self, path: &str) -> Result<Dated<A>, CliError> {
        let look = async {
            let answer = self.send(self.request(Method::GET, path)).await?;
            let at = date(answer.headers()).unwrap_or_else(SystemTime::now);
            let version = answer.headers().get(header::ETAG).cloned();
            Ok(Dated { value: understood(&self.read(answer.into_body()).await?)?, at, version })
        };
        timeout(ANSWER_TIMEOUT, look).await.unwrap_or_else(|_| Err(self.unreachable("no answer in time")))
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

    fn request_with(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Request<Full<Bytes>>, CliError> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            let json =
                serde_json::to_vec(body).map_err(|error| CliError::failed("can't write JSON", error))?;
            *request.body_mut() = Full::new(json.into());
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(request)
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
    pub async fn probe(&self, path: &str) -> Result<Response<Bytes>, CliError> {
        let probe = async {
            let (head, body) = self.exchange(self.request(Method::GET, path)).await?.into_parts();
            Ok(Response::from_parts(head, self.read(body).await?))
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
        let body = self.read(answer.into_body()).await?;
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

    async fn read(&self, body: Incoming) -> Result<Bytes, CliError> {
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        Ok(body.map_err(|error| self.unreachable(error))?.to_bytes())
    }

    fn unreachable(&self, cause: impl fmt::Display) -> CliError {
        CliError::Unreachable(format!("no answer from the gateway at {}: {cause}", self.target.address))
    }
}

fn understood<A: DeserializeOwned>(body: &[u8]) -> Result<A, CliError> {
    // An answer without a body stands for `()`, which is `null` in JSON.
    let json: &[u8] = if body.is_empty() { b"null" } else { body };
    serde_json::from_slice(json).map_err(|error| {
        CliError::Failed(format!("the gateway's answer makes no sense ({error}): is it of another version?"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_client_shows_no_token() {
        let token = Secret::from("tga_secret");
        let target = Target::parse("http://127.0.0.1:1").expect("a URL");
        let client = Client::new(target, None, Some(&token), Dialer::direct()).expect("well-formed");
        assert!(!format!("{client:?}").contains("tga_secret"));
    }
}
