//! A service's bytes as they are, for any protocol: an HTTP/1.1 request that is upgraded to `tcp`.
//!
//! The rule: the stream to the service is open before the client hears 101, so that whatever fails is a problem with a
//! status, and what comes after the 101 is the service's own.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Request, StatusCode, Version};
use serde::Deserialize;
use shared::id::{EdgeName, ServiceName};
use shared::wire::admin::AuditVia;

use super::ApiState;
use super::body::Path;
use super::peer::Peer;
use super::problem::{Code, Problem, Result};
use super::proxy::headers;
use super::upgraded::ClientEnd;
use crate::access::Operator;
use crate::audit::Entry;
use crate::audit::usage::StreamUse;

/// The token that names a plain stream of bytes; no registry has it, and Docker uses the same.
const PROTOCOL: &str = "tcp";

/// What may go wrong where a tunnel has to be opened first.
pub const OPENING: [Code; 5] =
    [Code::ServiceNotFound, Code::NoTunnel, Code::ServiceUnreachable, Code::TunnelLost, Code::StreamRefused];

/// Which service of which edge.
#[derive(Debug, Deserialize)]
pub struct Target {
    edge: EdgeName,
    service: ServiceName,
}

/// `GET /edges/{edge}/services/{service}/stream`.
pub async fn stream(
    State(state): State<Arc<ApiState>>,
    peer: Peer,
    operator: Operator,
    Path(Target { edge, service }): Path<Target>,
    request: Request<axum::body::Body>,
) -> Result<Response> {
    check_upgrade(request.version(), request.headers())?;
    let stream = state.open(&edge, &service, &operator).await?;
    let upgraded = hyper::upgrade::on(request);
    let entry = Entry::new((&operator).into(), "stream.open").from(peer.address);
    let entry = entry.edge(&edge).service(&service).via(AuditVia::Stream);
    let recorded = StreamUse::open(&state.audit, entry);
    tokio::spawn(async move {
        // An error means that the client left before it read the 101; the stream ends with this task.
        let Ok(upgraded) = upgraded.await else { return };
        let end = stream.carry(ClientEnd::from(upgraded)).await;
        recorded.carried(end);
        let (received, sent, orderly) = (end.received, end.sent, end.orderly);
        tracing::debug!(%edge, %service, received, sent, orderly, "stream ended");
    });
    Ok((StatusCode::SWITCHING_PROTOCOLS, [(CONNECTION, "upgrade"), (UPGRADE, PROTOCOL)]).into_response())
}

fn check_upgrade(version: Version, headers: &HeaderMap) -> Result<()> {
    let token = headers::upgrade(version, headers);
    if token.is_some() && headers::lists(headers, &UPGRADE, PROTOCOL) {
        return Ok(());
    }
    let detail = if version == Version::HTTP_11 {
        "a stream needs the headers `connection: upgrade` and `upgrade: tcp`; `tidegate connect` sends them"
    } else {
        "a stream needs HTTP/1.1, where a connection can be upgraded; ask again with HTTP/1.1"
    };
    Err(Problem::new(Code::UpgradeRequired, detail))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_an_upgrade_to_tcp_on_http_1_1_becomes_a_stream() {
        let asked = |connection: &'static str, upgrade: &'static str, version| {
            let mut headers = HeaderMap::new();
            headers.insert(CONNECTION, HeaderValue::from_static(connection));
            headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
            check_upgrade(version, &headers).map_err(|problem| problem.code())
        };
        assert_eq!(asked("keep-alive, Upgrade", "TCP", Version::HTTP_11), Ok(()));
        for (connection, upgrade, version) in [
            ("keep-alive", "tcp", Version::HTTP_11),
            ("upgrade", "websocket", Version::HTTP_11),
            ("upgrade", "tcp", Version::HTTP_10),
            ("upgrade", "tcp", Version::HTTP_2),
        ] {
            assert_eq!(
                asked(connection, upgrade, version),
                Err(Code::UpgradeRequired),
                "{connection} {version:?}"
            );
        }
    }
}
