//! What agents ask: the check-in, and their snapshots.
//!
//! [`line`](mod@line) answers what needs no asking, and holds what may wait; [`prefer`] reads whether it may.
//!
//! Here a request becomes an [`Identity`] and a [`CheckIn`], both bounded; what the answer is, the registry decides. The
//! rule: until the registry knows the key, the sender is a stranger, and costs no more than one small body.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use shared::wire::check_in::{
    Authorization, CheckIn, Hello, IDENTITY_HEADER, INSTANCE_HEADER, Identity, MAX_BODY, MAX_SERVICES, Need,
};
use shared::wire::snapshot::MAX_COMPRESSED;

use super::audited::Noted;
use super::peer::{Arrival, Peer};
use super::problem::{Code, Problem, Result};
use super::snapshot::{self, UnpackError};
use super::{ApiState, body, guard};
use crate::admission::{Caller, Failure};
use crate::audit::entry::agent;
use crate::store::SnapshotBlob;
use crate::telemetry::CheckInLabel;
use crate::tunnels::{CheckInAnswer, CheckInRefusal, Origin, Stands};
use line::Introduction;

pub mod line;
pub(super) mod prefer;

/// For a body that fits into a few packets, over the worst line that still carries a tunnel.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// For at most 1 MiB: 35 KiB a second will do, as on a bad mobile line.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(30);
/// Longest host name (RFC 1035 §2.3.4), and longest of everything else that is shown in a column.
const MAX_NAME: usize = 255;
/// Longest text of an agent that is shown to an operator as a sentence of its own.
const MAX_SENTENCE: usize = 1024;

/// `POST /api/v1/check-in`.
pub async fn check_in(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    arrival: Arrival,
    caller: Option<Extension<Caller>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let telemetry = state.vitals.telemetry();
    let wait = prefer::wait(&headers);
    let (who, report) = match question(&headers, body).await {
        Ok(question) => question,
        Err(problem) => {
            telemetry.check_in(CheckInLabel::Malformed);
            return Err(problem);
        }
    };
    let origin = Origin { address: peer.address.ip().to_canonical(), ssh: state.public.ssh(&arrival) };
    let (began, key) = (Instant::now(), who.authorization.key.digest());
    let answer = state.tunnels.check_in(who, report, origin).await;
    telemetry.check_in_took(began.elapsed());
    let label = label(&answer);
    let stranger = answer.as_ref().is_err_and(|refusal| matches!(refusal, CheckInRefusal::UnknownKey));
    if let Some(Extension(caller)) = &caller {
        if !stranger {
            caller.welcome();
        } else {
            let told = guard::penalty(caller);
            caller.failed(Failure::Credential);
            if let Some(problem) = told {
                telemetry.check_in(label);
                return Err(problem);
            }
        }
    }
    Ok(match answer {
        Ok((CheckInAnswer::Unchanged, stands)) => {
            let wait = wait.map(|wait| wait.min(stands.hold)).filter(|wait| !wait.is_zero());
            if wait.is_none() {
                telemetry.check_in(label);
            }
            (Extension(Introduction { stands, wait }), StatusCode::NO_CONTENT).into_response()
        }
        Ok((CheckInAnswer::Changed(answer), stands)) => {
            telemetry.check_in(label);
            // Not with an offer: until it has logged in, the agent would get the same one over and over.
            let asks_again = wait.is_some() && !stands.hold.is_zero() && answer.need == Need::None;
            let introduction = Introduction { stands, wait: None };
            let mut response = (Extension(introduction), Json(answer)).into_response();
            if asks_again {
                prefer::applied(response.headers_mut());
            }
            response
        }
        Err(refusal) => {
            telemetry.check_in(label);
            // Whose key it was is worth knowing in the audit log: it may be somebody who found a join token.
            let edge = state.tunnels.edge_of_key(key).await;
            let noted = Noted { actor: edge.as_ref().map(agent), edge, ..Noted::default() };
            (Extension(noted), Problem::from(refusal)).into_response()
        }
    })
}

async fn question(headers: &HeaderMap, body: Body) -> Result<(Identity, CheckIn)> {
    let who = identity(headers)?;
    let body = body::read(body, MAX_BODY, BODY_DEADLINE).await?;
    Ok((who, parse(&body)?))
}

fn label(answer: &std::result::Result<(CheckInAnswer, Stands), CheckInRefusal>) -> CheckInLabel {
    match answer {
        Ok((CheckInAnswer::Unchanged, _)) => CheckInLabel::Unchanged,
        Ok((CheckInAnswer::Changed(answer), _)) => match answer.need {
            Need::None => CheckInLabel::NotNeeded,
            Need::Tunnel => CheckInLabel::Needed,
        },
        Err(refusal) => refusal.into(),
    }
}

/// `POST /api/v1/check-in/snapshot`.
pub async fn put_snapshot(
    State(state): State<Arc<ApiState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode> {
    let who = identity(&headers)?;
    let edge = state.tunnels.identify(&who).await?;
    let _place = state.uploads.enter().await?;
    let gzip = body::read(body, MAX_COMPRESSED, SNAPSHOT_DEADLINE).await?;
    snapshot::unpack(gzip.clone()).await?;
    let blob =
        SnapshotBlob { received_at: SystemTime::now().into(), instance: who.instance, gzip: gzip.into() };
    state.tunnels.put_snapshot(edge, blob).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn identity(headers: &HeaderMap) -> Result<Identity> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let authorization: Authorization = text(AUTHORIZATION.as_str())
        .or_else(|| text(IDENTITY_HEADER))
        .unwrap_or_default()
        .parse()
        .map_err(|error| Problem::new(Code::UnknownKey, format!("{error}")))?;
    let instance = text(INSTANCE_HEADER).and_then(|text| text.parse().ok()).ok_or_else(|| {
        Problem::new(
            Code::InvalidRequest,
            format!("the {INSTANCE_HEADER} header must be the agent's instance id"),
        )
    })?;
    Ok(Identity { authorization, instance })
}

pub(super) fn parse(body: &[u8]) -> Result<CheckIn> {
    if body.is_empty() {
        return Ok(CheckIn::default());
    }
    let mut report: CheckIn = serde_json::from_slice(body).map_err(|error| {
        let code = if error.is_data() { Code::InvalidField } else { Code::InvalidJson };
        Problem::new(code, format!("the check-in is not as it should be: {error}"))
    })?;
    if let Some(failed) = &mut report.failed {
        failed.reason = sentence(&failed.reason);
    }
    match report.hello.as_ref().map_or(Ok(()), check) {
        Ok(()) => Ok(report),
        Err(detail) => Err(Problem::new(Code::InvalidField, detail)),
    }
}

/// What of an agent's words an operator is shown. A refusal would not do: the reason often quotes some other program,
/// and the agent has to get rid of it.
fn sentence(text: &str) -> String {
    text.chars().take(MAX_SENTENCE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Bounds on what an agent may say of itself: these texts end up in lists, logs and terminals of operators.
fn check(hello: &Hello) -> std::result::Result<(), String> {
    let Hello { agent, protocol: _, hostname, services, tunnel: _ } = hello;
    check_text("hello.agent", agent, MAX_NAME)?;
    check_text("hello.hostname", hostname, MAX_NAME)?;
    if services.len() > MAX_SERVICES {
        return Err(format!(
            "hello.services has {} services; at most {MAX_SERVICES} are possible",
            services.len()
        ));
    }
    for (position, service) in services.iter().enumerate() {
        check_text("hello.services.target", &service.target, MAX_SENTENCE)?;
        if services[..position].iter().any(|other| other.name == service.name) {
            return Err(format!(
                "hello.services has {} twice; give every service a name of its own",
                service.name
            ));
        }
    }
    Ok(())
}

fn check_text(field: &str, text: &str, limit: usize) -> std::result::Result<(), String> {
    if text.len() > limit {
        Err(format!("{field} has {} bytes; at most {limit} are possible", text.len()))
    } else if text.chars().any(char::is_control) {
        Err(format!("{field} has a control character"))
    } else {
        Ok(())
    }
}

impl From<UnpackError> for Problem {
    fn from(error: UnpackError) -> Self {
        let detail = error.to_string();
        match error {
            UnpackError::Gzip(_) | UnpackError::Trailing | UnpackError::Json(_) => {
                Self::new(Code::InvalidField, detail)
            }
            UnpackError::TooLarge => Self::new(Code::BodyTooLarge, detail),
            UnpackError::Failed => Self::internal(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::id::{EdgeId, EdgeKey, InstanceId, OfferId};
    use shared::wire::check_in::{FailedOffer, Service, ServiceKind, TunnelState};

    use super::*;

    fn hello() -> Hello {
        Hello {
            agent: "0.1.0".into(),
            protocol: 1,
            hostname: "shop".into(),
            services: vec![service("web")],
            tunnel: TunnelState::Closed,
        }
    }

    fn service(name: &str) -> Service {
        Service {
            name: name.parse().expect("a label"),
            kind: ServiceKind::Http,
            target: "http://127.0.0.1:8080".into(),
        }
    }

    fn parsed(report: &CheckIn) -> Result<CheckIn> {
        parse(&serde_json::to_vec(report).expect("serializes"))
    }

    #[test]
    fn an_empty_body_is_a_check_in_with_nothing_to_report() {
        assert_eq!(parse(b"").expect("valid"), CheckIn::default());
    }

    #[test]
    fn a_hello_within_bounds_passes_and_fields_of_the_future_are_ignored() {
        let report = CheckIn { hello: Some(hello()), failed: None };
        assert_eq!(parsed(&report).expect("valid"), report);
        assert_eq!(parse(br#"{"news":1}"#).expect("valid"), CheckIn::default());
    }

    #[test]
    fn a_report_out_of_bounds_is_refused() {
        let many = (0..=MAX_SERVICES).map(|number| service(&format!("s{number}"))).collect();
        let mut long_target = service("web");
        long_target.target = "x".repeat(MAX_SENTENCE + 1);
        for bad in [
            Hello { hostname: "x".repeat(MAX_NAME + 1), ..hello() },
            Hello { hostname: "shop\u{1b}[2J".into(), ..hello() },
            Hello { agent: "0.1.0\n".into(), ..hello() },
            Hello { services: many, ..hello() },
            Hello { services: vec![service("web"), service("db"), service("web")], ..hello() },
            Hello { services: vec![long_target], ..hello() },
        ] {
            let report = CheckIn { hello: Some(bad), failed: None };
            assert_eq!(parsed(&report).expect_err("out of bounds").code(), Code::InvalidField, "{report:?}");
        }
        assert_eq!(parse(b"{").expect_err("cut off").code(), Code::InvalidJson);
        assert_eq!(parse(br#"{"hello":5}"#).expect_err("no object").code(), Code::InvalidField);
    }

    #[test]
    fn the_reason_of_a_failed_offer_is_made_fit_to_show() {
        let reason = format!("no\r\nway\u{1b}[2J{}", "x".repeat(2 * MAX_SENTENCE));
        let report = CheckIn { hello: None, failed: Some(FailedOffer { offer: OfferId::random(), reason }) };
        let shown = parsed(&report).expect("valid").failed.expect("reported").reason;
        assert!(shown.starts_with("no  way [2Jxxx"), "{shown}");
        assert_eq!(shown.chars().count(), MAX_SENTENCE);
    }

    #[test]
    fn who_asks_is_in_the_headers() {
        let who = Identity {
            authorization: Authorization { edge_id: EdgeId::random(), key: EdgeKey::random() },
            instance: InstanceId::random(),
        };
        let mut headers = HeaderMap::new();
        assert_eq!(identity(&headers).expect_err("no key").code(), Code::UnknownKey);
        headers.insert(AUTHORIZATION, who.authorization.expose().parse().expect("a header value"));
        assert_eq!(identity(&headers).expect_err("no instance").code(), Code::InvalidRequest);
        headers.insert(INSTANCE_HEADER, who.instance.to_string().parse().expect("a header value"));
        assert_eq!(identity(&headers).expect("complete"), who);
        let authorization = headers.remove(AUTHORIZATION).expect("it was put in");
        headers.insert(IDENTITY_HEADER, authorization);
        assert_eq!(identity(&headers).expect("in the form for HTTP/2"), who);
        headers.insert(AUTHORIZATION, "Bearer x".parse().expect("a header value"));
        assert_eq!(identity(&headers).expect_err("another scheme").code(), Code::UnknownKey);
    }
}
