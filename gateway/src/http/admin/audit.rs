//! The audit log, read: pages, the whole of it, and whether it is intact.
//!
//! The rule: reading runs on threads for blocking work and a few at a time, since each may go through a gigabyte.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use futures_util::stream::{self, poll_fn};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use schemars::JsonSchema;
use serde::Deserialize;
use shared::id::EdgeName;
use shared::wire::admin::{AuditPage, AuditVerdict};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::task::spawn_blocking;

use crate::audit::export::export;
use crate::audit::page::{Query as Asked, page};
use crate::audit::verify::verify_view;
use crate::http::ApiState;
use crate::http::body::Query;
use crate::http::problem::{Code, Problem, Result};
use crate::store::pulse::in_time;

/// Records of a page where the query names no limit.
const DEFAULT_LIMIT: usize = 100;
/// Most records of a page: about 500 KiB of JSON.
const MAX_LIMIT: usize = 1000;
/// Pages that are read at a time; each takes a fraction of a second at most.
const PAGES: usize = 4;
/// Exports and verifications that run at a time; each reads the whole log.
const WHOLE: usize = 2;
/// Chunks that wait for a slow reader. When full, the export waits for it.
const CHUNKS_AHEAD: usize = 4;
/// When to try again where too many read already.
const BUSY_RETRY_S: u32 = 5;

static PAGE_PLACES: Semaphore = Semaphore::const_new(PAGES);
static WHOLE_PLACES: Semaphore = Semaphore::const_new(WHOLE);

/// Query of the list.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// `next` of the page before: only records before the one with this number.
    after: Option<u64>,
    /// Records of a page: 100 where it is not given.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// Only records about this edge.
    edge: Option<EdgeName>,
    /// Only records of an actor with this name.
    actor: Option<String>,
    /// Only records of this action; `edge.` with the dot is every action on edges.
    action: Option<String>,
    /// Only records from this time on, in milliseconds since 1970.
    since: Option<u64>,
    /// Only records before this time, in milliseconds since 1970.
    until: Option<u64>,
}

/// Query of the export.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportQuery {
    /// Only records behind the one with this number: what was exported before need not come again.
    after: Option<u64>,
}

/// `GET /audit`.
pub(super) async fn list(
    State(state): State<Arc<ApiState>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<AuditPage>> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let detail = format!("limit must be 1 to {MAX_LIMIT}; ask for the next page with after");
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    let ListQuery { after, limit: _, edge, actor, action, since, until } = query;
    let asked = Asked { after, limit, edge, actor, action, since, until };
    read(&state, asked).await.map(Json)
}

/// A page of the log, read on a thread for blocking work.
pub(in crate::http) async fn read(state: &ApiState, asked: Asked) -> Result<AuditPage> {
    in_time(async {
        let place = PAGE_PLACES.acquire().await.expect("nobody closes this semaphore");
        let view = state.audit.view();
        // The thread goes on after a client that went away, and so does its place.
        let read = spawn_blocking(move || {
            let _place = place;
            page(&view, &asked)
        });
        let read = read.await;
        read.map_err(Problem::internal)?.map_err(Problem::internal)
    })
    .await
}

/// `GET /audit/export`: the log as it was when it was asked for, without the record of that. Where it breaks off, the
/// connection does too, so that a client does not take a part for the whole.
pub(super) async fn download(
    State(state): State<Arc<ApiState>>,
    Query(query): Query<ExportQuery>,
) -> Result<Response> {
    let place = place()?;
    let audit = state.audit.clone();
    let (chunks, mut taken) = mpsc::channel(CHUNKS_AHEAD);
    spawn_blocking(move || {
        let _place = place;
        export(&audit, query.after.unwrap_or(0), &chunks);
    });
    // Where the log ends for this export is known with its first chunk; the export is recorded once this has answered.
    let first = taken.recv().await.transpose().map_err(Problem::internal)?;
    let rest = poll_fn(move |context| taken.poll_recv(context));
    let headers = [
        (CONTENT_TYPE, "application/jsonl"),
        (CONTENT_DISPOSITION, "attachment; filename=\"tidegate-audit.jsonl\""),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(stream::iter(first.map(Ok)).chain(rest))).into_response())
}

/// `GET /audit/verify`.
pub(super) async fn verify(State(state): State<Arc<ApiState>>) -> Result<Json<AuditVerdict>> {
    check(&state).await.map(Json)
}

/// Goes through the whole log.
pub(in crate::http) async fn check(state: &ApiState) -> Result<AuditVerdict> {
    let place = place()?;
    let audit = state.audit.clone();
    let verdict = spawn_blocking(move || {
        let _place = place;
        audit.read(|view| verify_view(view, &[]))
    });
    verdict.await.map_err(Problem::internal)?.map_err(Problem::internal)
}

fn place() -> Result<SemaphorePermit<'static>> {
    WHOLE_PLACES.try_acquire().map_err(|_| {
        let detail =
            format!("{WHOLE} others read the whole audit log already; try again in {BUSY_RETRY_S} s");
        Problem::new(Code::Busy, detail).retry_after_s(BUSY_RETRY_S)
    })
}
