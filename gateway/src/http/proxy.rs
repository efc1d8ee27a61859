//! A service's HTTP through its tunnel: `/api/v1/edges/{edge}/services/{service}/proxy/...` for programs, and
//! [`super::browse`] for browsers.
//!
//! One request, one stream. Bodies are never collected: back-pressure goes from end to end, and a side that goes away
//! takes the stream with it. The path and the query pass byte for byte, since services differ in what they make of
//! `%2F`, `//` and `..`. The service gets its own address as `host` where it is known to be an HTTP service, as it would
//! from a browser beside it, and its name otherwise; the host by which the operator asked is in `x-forwarded-host`.
//!
//! No timeout counts here: a service may take its time, and an event stream never ends. What bounds a request is its
//! client, the tunnel's keep-alives below it, and the caps on streams.

mod body;
pub mod headers;

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, EXPECT, LOCATION, UPGRADE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, StatusCode, Uri, Version};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use shared::id::{EdgeName, ServiceName};
use shared::tunnel::carry::{CarryEnd, Local as _};
use shared::wire::admin::{self, AuditVia};
use shared::wire::check_in::ServiceKind;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio_util::task::AbortOnDropHandle;

use super::ApiState;
use super::peer::Peer;
use super::problem::{Code, Problem, Result};
use super::upgraded::ClientEnd;
use crate::access::{Credential, Operator};
use crate::audit::usage::StreamUse;
use crate::audit::{Audit, Entry};
use body::{RequestBody, ResponseBody};
use headers::{Forwarded, Way};

/// Most headers of an answer, and most bytes of its head: far beyond honest services, and little memory for others.
const MAX_HEADERS: usize = 200;
const MAX_HEAD: usize = 64 * 1024;
/// Buffer of an upgraded stream, for each direction: one message of the tunnel.
const SPLICE_BUFFER: usize = 32 * 1024;

/// Why an answer can't be passed on.
#[derive(Debug, thiserror::Error)]
enum ForwardError {
    #[error("it closed the connection without an answer")]
    NoAnswer(#[source] hyper::Error),
    #[error("its answer is not HTTP; carry other protocols with `tidegate connect`")]
    NotHttp(#[source] hyper::Error),
    #[error("the head of its answer has more than {MAX_HEADERS} headers or {MAX_HEAD} bytes")]
    HeadTooLarge(#[source] hyper::Error),
    #[error("the connection broke before it answered: {0}")]
    Broken(#[source] hyper::Error),
    #[error("it changed to another protocol that nobody asked for")]
    UnaskedUpgrade,
}

/// A request for a service: where it goes, and by which way it came.
#[derive(Debug)]
pub struct Errand {
    /// Which edge.
    pub edge: EdgeName,
    /// Which service of it.
    pub service: ServiceName,
    /// Path and query as the service gets them.
    pub upstream: PathAndQuery,
    /// What stands before the service's own paths, as `/api/v1/edges/shop-17/services/web/proxy`.
    pub prefix: Option<HeaderValue>,
    /// What may pass.
    pub way: Way,
}

/// `ANY /edges/{edge}/services/{service}/proxy/{*path}`.
pub async fn proxy(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    operator: Operator,
    request: Request,
) -> Result<Response> {
    let Target { edge, service, upstream } = Target::of(request.uri())?;
    for_programs_only(&operator, &edge, &service)?;
    let prefix = Some(Target::prefix(&edge, &service));
    pass(&state, peer, &operator, Errand { edge, service, upstream, prefix, way: Way::Api }, request).await
}

/// Carries a request to its service and the answer back, for as long as the operator may.
pub async fn pass(
    state: &ApiState,
    peer: Peer,
    operator: &Operator,
    errand: Errand,
    request: Request,
) -> Result<Response> {
    let Errand { edge, service, upstream, prefix, way } = errand;
    let stream = state.open(&edge, &service, operator).await?;
    let record = state.tunnels.edge(&edge).await?;
    let entry = Entry::new(operator.into(), way.action()).from(peer.address);
    let recorded = Recorded::new(&state.audit, entry.edge(&edge).service(&service).via(AuditVia::Proxy));
    let forwarded = Forwarded { peer, prefix, host: host_of(&service, &record), way };
    let ended = recorded.clone();
    let io = stream.into_io_then(move |end| ended.carried(end));
    let response = forward(request, upstream, &forwarded, io).await.map_err(|error| {
        Problem::new(
            Code::BadServiceAnswer,
            format!("service {service} of edge {edge} gave no usable answer: {error}"),
        )
    })?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        recorded.upgraded();
    }
    Ok(response)
}

/// One request as the audit log has it: counted with others of its minute, or, once it is upgraded, a stream.
#[derive(Clone)]
struct Recorded {
    audit: Audit,
    entry: Entry,
    stream: Arc<Mutex<Option<StreamUse>>>,
}

impl Recorded {
    fn new(audit: &Audit, entry: Entry) -> Self {
        audit.used(entry.clone());
        Self { audit: audit.clone(), entry, stream: Arc::default() }
    }

    fn upgraded(&self) {
        let opened = StreamUse::open(&self.audit, self.entry.clone().at_now().action("stream.open"));
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
    }

    fn carried(&self, end: CarryEnd) {
        match self.stream.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(stream) => stream.carried(end),
            None => self.audit.carried(&self.entry, end.sent, end.received),
        }
    }
}

/// What a service answers here has the gateway's own origin. A browser would run its scripts with the session that the
/// request came by, so it is given nothing; a program does not run what it gets.
fn for_programs_only(operator: &Operator, edge: &EdgeName, service: &ServiceName) -> Result<()> {
    match operator.credential {
        Credential::Token(_) | Credential::SshKey(_) => Ok(()),
        Credential::Session(_) => Err(Problem::new(
            Code::BrowserRefused,
            format!(
                "this is for programs with an API token; in a browser, open /edges/{edge}/services/{service}/open"
            ),
        )),
    }
}

/// `ANY /edges/{edge}/services/{service}/proxy`: without the slash, links of the service's pages would lead astray.
pub async fn add_slash(request: Request) -> Result<Response> {
    let Target { edge, service, .. } = Target::of(request.uri())?;
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::try_from(format!("{}/{query}", Target::prefix_text(&edge, &service)))
        .map_err(|_| Problem::new(Code::InvalidRequest, "the query has a character that a URL can't have"))?;
    Ok((StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]).into_response())
}

/// What the path says, without decoding anything.
#[derive(Debug)]
struct Target {
    edge: EdgeName,
    service: ServiceName,
    upstream: PathAndQuery,
}

impl Target {
    /// Reads the URI of a request for a service.
    fn of(uri: &Uri) -> Result<Self> {
        let mut parts = uri.path().splitn(9, '/');
        let (edge, service) = (parts.nth(4).unwrap_or_default(), parts.nth(1).unwrap_or_default());
        let rest = parts.nth(1).unwrap_or_default();
        let invalid = |detail: String| Problem::new(Code::InvalidRequest, detail);
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self {
            edge: edge.parse().map_err(|error| invalid(format!("the edge's name is {error}")))?,
            service: service.parse().map_err(|error| invalid(format!("the service's name is {error}")))?,
            upstream: format!("/{rest}{query}")
                .try_into()
                .map_err(|error| invalid(format!("the path: {error}")))?,
        })
    }

    fn prefix_text(edge: &EdgeName, service: &ServiceName) -> String {
        format!("/api/v1/edges/{edge}/services/{service}/proxy")
    }

    fn prefix(edge: &EdgeName, service: &ServiceName) -> HeaderValue {
        HeaderValue::try_from(Self::prefix_text(edge, service))
            .expect("names are DNS labels, which a header can have")
    }
}

/// What the service gets as `host`.
fn host_of(service: &ServiceName, edge: &admin::Edge) -> HeaderValue {
    let announced = edge.instances.iter().flat_map(|instance| &instance.services);
    announced
        .filter(|announced| announced.name == *service && announced.kind == ServiceKind::Http)
        .find_map(|announced| {
            let target = announced.target.strip_prefix("http://").unwrap_or(&announced.target);
            let authority: Authority = target.split('/').next()?.parse().ok()?;
            HeaderValue::try_from(authority.as_str()).ok()
        })
        .unwrap_or_else(|| {
            HeaderValue::try_from(service.as_str()).expect("a DNS label, which a header can have")
        })
}

/// Sends `request` over `io` and gives the answer as soon as its head is there. The answer's body, or the task that
/// carries an upgrade, owns `io` from then on; dropping this future before drops it.
async fn forward<I>(
    mut request: Request,
    upstream: PathAndQuery,
    forwarded: &Forwarded,
    io: I,
) -> std::result::Result<Response, ForwardError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let upgrade = headers::upgrade(request.version(), request.headers());
    let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let request = outbound(request, upstream, upgrade, forwarded);
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(io))
        .await
        .map_err(ForwardError::Broken)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // Its error reaches whoever waits for the answer or reads the body.
        let _ = connection.with_upgrades().await;
    }));
    let mut answer = sender.send_request(request).await.map_err(ForwardError::from)?;
    let switched =
        (answer.status() == StatusCode::SWITCHING_PROTOCOLS).then(|| hyper::upgrade::on(&mut answer));
    let protocol = answer.headers().get(UPGRADE).cloned();
    let (mut head, body) = answer.into_parts();
    headers::to_client(&mut head.headers, forwarded);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    match (switched, client) {
        (None, _) => *response.body_mut() = Body::new(ResponseBody::new(body, connection)),
        (Some(_), None) => return Err(ForwardError::UnaskedUpgrade),
        (Some(service), Some(client)) => {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            if let Some(protocol) = protocol {
                response.headers_mut().insert(UPGRADE, protocol);
            }
            tokio::spawn(splice(client, service, connection));
        }
    }
    Ok(response)
}

/// The request as the service gets it. Nothing but method, path, headers and body comes over: extensions belong to the
/// connection that the request came by.
fn outbound(
    request: Request,
    upstream: PathAndQuery,
    upgrade: Option<HeaderValue>,
    forwarded: &Forwarded,
) -> http::Request<RequestBody> {
    let (mut head, body) = request.into_parts();
    headers::to_service(&mut head.headers, upgrade, forwarded);
    let mut request = http::Request::new(body);
    *request.method_mut() = head.method;
    *request.uri_mut() = upstream.into();
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = head.headers;
    if request
        .headers()
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        RequestBody::expected(request)
    } else {
        request.map(RequestBody::immediate)
    }
}

/// Carries an upgraded connection: the end of one direction leaves the other open, and what breaks on one side is a
/// reset on the other. The service's side resets when it is dropped before its end.
async fn splice(client: OnUpgrade, service: OnUpgrade, _connection: AbortOnDropHandle<()>) {
    // An error means that a side left right at the change; dropping the other ends it too.
    let Ok((client, service)) = tokio::try_join!(client, service) else { return };
    let (mut client, mut service) = (ClientEnd::from(client), TokioIo::new(service));
    let done = copy_bidirectional_with_sizes(&mut client, &mut service, SPLICE_BUFFER, SPLICE_BUFFER).await;
    if let Err(error) = done {
        client.reset();
        tracing::debug!(%error, "upgraded stream broke");
    }
}

impl From<hyper::Error> for ForwardError {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse_too_large() {
            Self::HeadTooLarge(error)
        } else if error.is_parse() {
            Self::NotHttp(error)
        } else if error.is_incomplete_message() {
            Self::NoAnswer(error)
        } else {
            Self::Broken(error)
        }
    }
}

#[cfg(test)]
mod tests;
