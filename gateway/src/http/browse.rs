//! Services in a browser, so that none can act on the gateway or on another service.
//!
//! Every service has an origin of its own: a host name below the service domain ([`mod@label`]). Its scripts run there, with
//! its cookies and storage, and to the gateway's pages they are a stranger. A person goes from the gateway's page through
//! [`open`], which checks them as any other request and sends them over with a ticket; [`enter`] turns it into a cookie
//! of that origin, the one credential that counts there ([`passes`]). Where no name can be had for services, they open
//! below `/s/PASS/` in a sandbox instead, as an origin that nothing else has; links that begin with a slash break there.
//!
//! | at | who is let in by what |
//! | --- | --- |
//! | the gateway's host | session or API token; services only below `/s/PASS/`, sandboxed |
//! | a service's host | its own cookie; none of the gateway's paths is there |
//!
//! The rules: the host decides before any route does, so that no path of the gateway is ever served on a service's origin.
//! A request that a browser sends for another page than the service's own is refused, its visits to it apart: sibling
//! services are the same site to a browser, and their cookies travel. And what was let in ends with what let it in.

pub mod label;
pub mod passes;
mod refusal;

use std::borrow::Cow;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL,
    COOKIE, HOST, LOCATION, ORIGIN, REFERRER_POLICY, SET_COOKIE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;
use shared::id::{EdgeName, ServiceName};
use shared::secret::Secret;

use super::ApiState;
use super::audited::{Noted, refused_outside};
use super::body::Path;
use super::operation::{Needs, Operation, every, get};
use super::origin::{self, OwnOrigin};
use super::page::refusal::asks_for_html;
use super::peer::{Arrival, Peer};
use super::problem::{Code, Problem, Result};
use super::proxy::headers::Way;
use super::proxy::{self, Errand};
use super::stream::OPENING;
use crate::access::Operator;
use crate::domain::authority::Role;
use label::label;
use passes::Pass;

/// Where browsers resolve every name to the machine itself (RFC 6761 §6.3), so that services have origins without any
/// set-up for whoever works on the gateway's machine or through a forwarded port.
pub const LOCALHOST: &str = "localhost";
/// On a service's host: takes a ticket. No service has this path of its own there.
const ENTER: &str = "/.tidegate/enter";
/// The pass over TLS, under a name that browsers take from the very host only: a sibling service can't plant one.
const SECURE_NAME: &str = "__Host-tidegate-pass";
/// The pass over plain HTTP.
const PLAIN_NAME: &str = "tidegate-pass";
/// Before the pass in a path.
const SANDBOX: &str = "/s/";
/// How long a browser may remember what a sandbox may ask: until the next click is enough.
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("600");

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The answer has a secret, which is no other page's.
const SECRET: [(HeaderName, HeaderValue); 2] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// What may go wrong with a request in a sandbox, beside what may with a stream.
const FAILS: [Code; 3] = [Code::NoPass, Code::CrossOrigin, Code::BadServiceAnswer];

/// The rows of services in a browser. Those below `/s/` are checked by their pass.
#[rustfmt::skip]
pub fn operations() -> Vec<Operation> {
    use Needs::{Edge, Nothing};
    const OPEN: &str = "/edges/{edge}/services/{service}/open";
    const ROOT: &str = "/s/{pass}/";
    const BELOW: &str = "/s/{pass}/{*path}";
    vec![
        get("service.open", OPEN, Edge(Role::Operator), open, "Opens a service in the browser").answers_nothing(303),
        every("service.sandbox", ROOT, Nothing, sandboxed, "A service in a sandbox, its root")
            .audited_by_handler().fails(&OPENING).fails(&FAILS),
        every("service.sandbox", BELOW, Nothing, sandboxed, "A service in a sandbox")
            .audited_by_handler().fails(&OPENING).fails(&FAILS),
    ]
}

/// Before the router: what is asked on a service's host is the service's.
pub async fn dispatch(State(state): State<Arc<ApiState>>, request: Request, next: Next) -> Response {
    let asked = host(&request).and_then(|host| state.public.service_label(host).map(str::to_owned));
    let Some(label) = asked else { return next.run(request).await };
    let wants_page = asks_for_html(request.headers());
    let peer = request.extensions().get().copied();
    match serve(&state, &label, request).await {
        Ok(answer) => answer,
        Err(Refused { problem, to }) => {
            refused_outside(&state.audit, "service.browse", peer, &to, &problem);
            if wants_page { refusal::page(problem) } else { problem.into_response() }
        }
    }
}

/// Whether a request is for a service's host, where nothing of the gateway's pages is.
pub fn is_for_service(state: &ApiState, request: &Request) -> bool {
    host(request).is_some_and(|host| state.public.service_label(host).is_some())
}

/// What went wrong with a request, and with whose, as far as that was known by then.
struct Refused {
    problem: Problem,
    to: Noted,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem, to: Noted::default() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (Extension(self.to), self.problem).into_response()
    }
}

/// A path as logs may have it: without the pass.
pub fn without_pass(path: &str) -> Cow<'_, str> {
    match path.strip_prefix(SANDBOX).map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
        Some((_, rest)) => Cow::Owned(format!("{SANDBOX}***/{rest}")),
        None => Cow::Borrowed(path),
    }
}

/// Which service.
#[derive(Debug, Deserialize)]
struct Target {
    edge: EdgeName,
    service: ServiceName,
}

/// `GET /edges/{edge}/services/{service}/open`.
async fn open(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    arrival: Arrival,
    operator: Operator,
    Path(Target { edge, service }): Path<Target>,
) -> Result<Response> {
    let endpoint = state.tunnels.edge(&edge).await?.endpoint_id;
    let location = match state.public.service_domain(&arrival) {
        Some(domain) => {
            let scheme = if peer.secure { "https" } else { "http" };
            let port = arrival.0.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
            let host = format!("{}.{domain}{port}", label(&service, &edge));
            let ticket =
                state.passes.ticket(Pass { credential: operator.credential, edge, endpoint, service });
            format!("{scheme}://{host}{ENTER}?ticket={}", ticket.expose())
        }
        None => {
            let pass = state.passes.issue(Pass { credential: operator.credential, edge, endpoint, service });
            format!("{SANDBOX}{}/", pass.expose())
        }
    };
    let mut location = HeaderValue::try_from(location)
        .map_err(|_| Problem::internal("the address of a service's origin is no header"))?;
    location.set_sensitive(true);
    Ok((StatusCode::SEE_OTHER, SECRET, [(LOCATION, location)]).into_response())
}

/// A request on a service's host.
async fn serve(state: &ApiState, label: &str, request: Request) -> std::result::Result<Response, Refused> {
    let peer = peer_of(&request)?;
    if request.uri().path() == ENTER {
        return Ok(enter(state, label, peer, request.uri())?);
    }
    let pass = pass_of(state, label, peer, request.headers()).ok_or_else(no_pass)?;
    let arrival = Arrival::of(request.uri(), request.headers())?;
    let own = OwnOrigin { secure: peer.secure, arrival: &arrival.0, public_url: None };
    if !is_own_or_visit(request.method(), request.headers(), own) {
        let detail =
            "another site's page asked for this in your name, and it was refused; open the service itself";
        return Err(Problem::new(Code::CrossOrigin, detail).into());
    }
    let operator = admit(state, &pass).await?;
    let upstream = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let errand =
        Errand { edge: pass.edge, service: pass.service, upstream, prefix: None, way: Way::OwnOrigin };
    carry(state, peer, &operator, errand, request).await
}

/// Carries it for somebody who is known: what goes wrong from here on is theirs.
async fn carry(
    state: &ApiState,
    peer: Peer,
    operator: &Operator,
    errand: Errand,
    request: Request,
) -> std::result::Result<Response, Refused> {
    let (edge, service) = (Some(errand.edge.clone()), Some(errand.service.clone()));
    let passed = proxy::pass(state, peer, operator, errand, request).await;
    passed.map_err(|problem| {
        let to = Noted { actor: Some(operator.into()), edge, service, ..Noted::default() };
        Refused { problem, to }
    })
}

/// Turns a ticket into the cookie of this origin.
fn enter(state: &ApiState, label: &str, peer: Peer, uri: &Uri) -> Result<Response> {
    let ticket = uri.query().and_then(|query| query.strip_prefix("ticket=")).ok_or_else(no_pass)?;
    let (_, secret) = state.passes.enter(ticket, |pass| is_at(pass, label)).ok_or_else(no_pass)?;
    Ok((
        StatusCode::SEE_OTHER,
        SECRET,
        [(LOCATION, HeaderValue::from_static("/")), (SET_COOKIE, cookie(&secret, peer))],
    )
        .into_response())
}

/// `ANY /s/{pass}/{*path}`.
async fn sandboxed(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    request: Request,
) -> std::result::Result<Response, Refused> {
    let (secret, upstream) = secret_and_path(request.uri())?;
    let pass = state.passes.find(secret).ok_or_else(no_pass)?;
    if is_of_our_page(request.headers()) {
        let detail = "the gateway's own pages have no use for what is in a sandbox; open the service itself";
        return Err(Problem::new(Code::CrossOrigin, detail).into());
    }
    if let Some(answer) = preflight(&request) {
        return Ok(answer);
    }
    let operator = admit(&state, &pass).await?;
    let way = Way::Sandbox { base: format!("{SANDBOX}{secret}") };
    let errand = Errand { edge: pass.edge, service: pass.service, upstream, prefix: None, way };
    carry(&state, peer, &operator, errand, request).await
}

/// What the pass allows now: as much as the credential behind it.
async fn admit(state: &ApiState, pass: &Pass) -> Result<Operator> {
    let operator = state.access.operator(pass.credential).filter(|operator| operator.role >= Role::Operator);
    let operator = operator.ok_or_else(no_pass)?;
    let edge = state.tunnels.edge(&pass.edge).await.map_err(|_| no_pass())?;
    if edge.endpoint_id != pass.endpoint || !operator.reach.covers(&edge.tags) {
        return Err(no_pass());
    }
    Ok(operator)
}

/// One answer for every pass that counts no more or never did.
fn no_pass() -> Problem {
    let detail = "your permission to use this service has ended, or was for another; open the service again from its \
                  edge's page at the gateway";
    Problem::new(Code::NoPass, detail)
}

/// The pass among the cookies that is for the service of this host. Others of the name came from elsewhere.
fn pass_of(state: &ApiState, label: &str, peer: Peer, headers: &HeaderMap) -> Option<Pass> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let ours = pairs.filter(|(name, _)| *name == cookie_name(peer));
    ours.filter_map(|(_, secret)| state.passes.find(secret)).find(|pass| is_at(pass, label))
}

fn is_at(pass: &Pass, host_label: &str) -> bool {
    label(&pass.service, &pass.edge).eq_ignore_ascii_case(host_label)
}

fn cookie_name(peer: Peer) -> &'static str {
    if peer.secure { SECURE_NAME } else { PLAIN_NAME }
}

/// Ends with the browser. `Lax`, because the person comes from the gateway's origin, which may be another site.
fn cookie(secret: &Secret<String>, peer: Peer) -> HeaderValue {
    let secure = if peer.secure { "; Secure" } else { "" };
    let text = format!("{}={}; Path=/; HttpOnly; SameSite=Lax{secure}", cookie_name(peer), secret.expose());
    let mut header = HeaderValue::try_from(text).expect("names and base64url have no character to forbid");
    header.set_sensitive(true);
    header
}

/// Whether the service's own page sent it, or the person went there. What says nothing of where it comes from is no
/// browser's, or a read by an old one over plain HTTP.
fn is_own_or_visit(method: &Method, headers: &HeaderMap, own: OwnOrigin<'_>) -> bool {
    let is_visit = method.is_safe()
        && headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate")
        && headers.get(SEC_FETCH_DEST).is_some_and(|destination| destination == "document");
    let says_nothing = !headers.contains_key(SEC_FETCH_SITE) && !headers.contains_key(ORIGIN);
    is_visit || says_nothing || origin::is_ours(headers, own)
}

/// To a browser a sandboxed page is a stranger to the gateway's. What it calls the same origin is a page of ours that
/// was led to load a service's script or data as its own; going there is all that our pages do.
fn is_of_our_page(headers: &HeaderMap) -> bool {
    let is = |name: &HeaderName, value: &str| headers.get(name).is_some_and(|header| header == value);
    is(&SEC_FETCH_SITE, "same-origin") && !is(&SEC_FETCH_DEST, "document")
}

/// The answer to a browser that asks whether a sandboxed page may ask (Fetch §4.8): it may what the service allows.
fn preflight(request: &Request) -> Option<Response> {
    let headers = request.headers();
    let method =
        headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| request.method() == Method::OPTIONS)?;
    headers.get(ORIGIN).filter(|origin| *origin == "null")?;
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("null"));
    answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    answer.headers_mut().insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE);
    if let Some(names) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    Some(answer)
}

/// What a path below `/s/` says, without decoding anything.
fn secret_and_path(uri: &Uri) -> Result<(&str, PathAndQuery)> {
    let (secret, path) =
        uri.path().strip_prefix(SANDBOX).and_then(|rest| rest.split_once('/')).ok_or_else(no_pass)?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let upstream = format!("/{path}{query}").try_into();
    let upstream =
        upstream.map_err(|error| Problem::new(Code::InvalidRequest, format!("the path: {error}")))?;
    Ok((secret, upstream))
}

fn peer_of(request: &Request) -> Result<Peer> {
    request.extensions().get().copied().ok_or_else(|| Problem::internal("the listener named no peer"))
}

/// The host of a request without its port. Names only: nothing of ours is at an IPv6 address.
fn host(request: &Request) -> Option<&str> {
    let in_header = || request.headers().get(HOST)?.to_str().ok();
    let host = request.uri().host().or_else(in_header)?;
    Some(host.split_once(':').map_or(host, |(host, _)| host))
}

#[cfg(test)]
mod tests;
