//! Containers of a Docker Engine behind an edge, through its tunnel: what there is, start, stop, restart, logs.
//!
//! Where the engine is, the site's last snapshot says: the agent has asked what is behind its services. The rule: whoever may
//! use the edge may do this, since its services give them the whole engine anyway; nothing here reaches further.

pub mod engine;
pub mod frames;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{Response, sse};
use futures_util::{Stream, stream};
use http::StatusCode;
use http_body_util::BodyExt as _;
use schemars::JsonSchema;
use serde::Deserialize;
use shared::id::{EdgeName, ServiceName};
use shared::wire::admin::{ContainerList, Edge, LogLine};
use shared::wire::check_in::ServiceKind;
use shared::wire::snapshot::Snapshot;

use super::ApiState;
use super::body::{Path, Query};
use super::event_stream::event_stream;
use super::operation::{Needs, Operation, get, post};
use super::peer::Peer;
use super::problem::{Code, Problem, Result};
use super::snapshot::unpack;
use super::stream::OPENING;
use crate::access::Operator;
use crate::domain::authority::Role;
use crate::domain::refusal::AdminError;
use engine::{Act, ContainerName, Engine, Log};
use frames::Decoder;

/// Lines from the end of a log where the query names no number: a screen or two.
const DEFAULT_TAIL: u32 = 200;
/// Most of them: they stream, so this bounds a page and not our memory.
const MAX_TAIL: u32 = 100_000;

/// What may go wrong with an engine.
const FAILS: [Code; 3] = [Code::EngineNotFound, Code::BadServiceAnswer, Code::InvalidRequest];

/// The rows of containers.
#[rustfmt::skip]
pub fn operations() -> Vec<Operation> {
    const USE: Needs = Needs::Edge(Role::Operator);
    const CONTAINERS: &str = "/api/v1/edges/{edge}/containers";
    const START: &str = "/api/v1/edges/{edge}/containers/{container}/start";
    const STOP: &str = "/api/v1/edges/{edge}/containers/{container}/stop";
    const RESTART: &str = "/api/v1/edges/{edge}/containers/{container}/restart";
    const LOGS: &str = "/api/v1/edges/{edge}/containers/{container}/logs";
    let of_container = |operation: Operation| {
        operation.part::<ContainerName>("container").fails(&OPENING).fails(&FAILS).fails(&[Code::ContainerNotFound])
    };
    let act = |operation: Operation| of_container(operation.query::<EngineQuery>().answers_nothing(204));
    vec![
        get("docker.list", CONTAINERS, USE, list, "Lists the containers of an edge's Docker Engine")
            .query::<EngineQuery>().answers::<ContainerList>(200).fails(&OPENING).fails(&FAILS)
            .more("Opens the tunnel where it is closed."),
        act(post("docker.start", START, USE, start, "Starts a container")),
        act(post("docker.stop", STOP, USE, stop, "Stops a container")),
        act(post("docker.restart", RESTART, USE, restart, "Restarts a container")),
        of_container(get("docker.logs", LOGS, USE, logs, "Tells a container's log, line by line"))
            .query::<LogQuery>().answers_bytes(200, "text/event-stream")
            .more("Server-sent events: `log` with a `LogLine`, and `end` with the reason when there will be no more."),
    ]
}

/// Which engine, where an edge has several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineQuery {
    /// The service that leads to it.
    pub service: Option<ServiceName>,
}

/// What of a log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// The service that leads to the engine.
    service: Option<ServiceName>,
    /// Lines from its end, 0 to 100,000.
    #[schemars(range(max = 100_000))]
    tail: Option<u32>,
    /// Whether to go on with the lines that come.
    #[serde(default)]
    follow: bool,
}

/// Which container.
#[derive(Debug, Deserialize)]
pub struct Target {
    /// Whose engine.
    pub edge: EdgeName,
    /// Name or id.
    pub container: ContainerName,
}

/// Who wants something of an engine, and of which.
pub struct Errand<'a> {
    /// What there is.
    pub state: &'a ApiState,
    /// From where.
    pub peer: Peer,
    /// Who.
    pub operator: &'a Operator,
    /// Whose engine.
    pub edge: &'a EdgeName,
    /// The service that leads to it, where that was said.
    pub service: Option<ServiceName>,
}

impl Errand<'_> {
    /// A connection to the engine, and the service that leads there.
    async fn reach(self) -> Result<(Engine, ServiceName)> {
        let Self { state, peer, operator, edge, service } = self;
        let service = engine_of(state, edge, service).await?;
        Ok((Engine::reach(state, peer, operator, edge, service.clone()).await?, service))
    }
}

/// `GET /edges/{edge}/containers`.
async fn list(
    State(state): State<Arc<ApiState>>,
    Path(edge): Path<EdgeName>,
    peer: Peer,
    operator: Operator,
    Query(EngineQuery { service }): Query<EngineQuery>,
) -> Result<axum::Json<ContainerList>> {
    let errand = Errand { state: &state, peer, operator: &operator, edge: &edge, service };
    Ok(axum::Json(containers(errand).await?))
}

/// The containers of an edge.
pub async fn containers(errand: Errand<'_>) -> Result<ContainerList> {
    let (mut engine, service) = errand.reach().await?;
    Ok(ContainerList { containers: engine.containers().await?, service })
}

/// `POST /edges/{edge}/containers/{container}/start`, and so on: a handler of each act.
macro_rules! acts {
    ($($handler:ident = $act:ident;)*) => {$(
        async fn $handler(
            State(state): State<Arc<ApiState>>,
            Path(Target { edge, container }): Path<Target>,
            peer: Peer,
            operator: Operator,
            Query(EngineQuery { service }): Query<EngineQuery>,
        ) -> Result<StatusCode> {
            let errand = Errand { state: &state, peer, operator: &operator, edge: &edge, service };
            act(errand, Act::$act, &container).await?;
            Ok(StatusCode::NO_CONTENT)
        }
    )*};
}

acts! {
    start = Start;
    stop = Stop;
    restart = Restart;
}

/// Does something to a container of an edge.
pub async fn act(errand: Errand<'_>, act: Act, container: &ContainerName) -> Result<()> {
    let (operator, edge) = (errand.operator, errand.edge);
    let (mut engine, _) = errand.reach().await?;
    engine.act(act, container).await?;
    tracing::info!(operator = %operator.name, %edge, %container, act = act.name(), "container changed");
    Ok(())
}

/// `GET /edges/{edge}/containers/{container}/logs`.
async fn logs(
    State(state): State<Arc<ApiState>>,
    Path(Target { edge, container }): Path<Target>,
    peer: Peer,
    operator: Operator,
    Query(LogQuery { service, tail, follow }): Query<LogQuery>,
) -> Result<Response> {
    let tail = tail.unwrap_or(DEFAULT_TAIL);
    if tail > MAX_TAIL {
        return Err(Problem::new(Code::InvalidRequest, format!("tail must be 0 to {MAX_TAIL}")));
    }
    let errand = Errand { state: &state, peer, operator: &operator, edge: &edge, service };
    let log = log(errand, &container, tail, follow).await?;
    Ok(event_stream(events(log)))
}

/// A container's log.
pub async fn log(errand: Errand<'_>, container: &ContainerName, tail: u32, follow: bool) -> Result<Lines> {
    let (engine, _) = errand.reach().await?;
    Ok(Lines::new(engine.log(container, tail, follow).await?))
}

/// A log as lines, as they come.
#[derive(Debug)]
pub struct Lines {
    log: Log,
    /// `None` after the end.
    decoder: Option<Decoder>,
    /// Whole lines that were not asked for yet: what one read of the connection had.
    ready: VecDeque<LogLine>,
}

impl Lines {
    fn new(log: Log) -> Self {
        Self { decoder: Some(Decoder::new(log.terminal)), log, ready: VecDeque::new() }
    }

    /// The next line; `None` at the end, and why it broke off where it did.
    pub async fn next(&mut self) -> std::result::Result<Option<LogLine>, String> {
        let mut lines = Vec::new();
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            let Some(mut decoder) = self.decoder.take() else { return Ok(None) };
            match self.log.body.frame().await {
                Some(Ok(frame)) => {
                    let bytes = frame.into_data().unwrap_or_default();
                    decoder.feed(&bytes, &mut lines).map_err(|error| error.to_string())?;
                    self.decoder = Some(decoder);
                }
                Some(Err(_)) => return Err("the connection to the engine broke".to_owned()),
                None => decoder.finish(&mut lines),
            }
            self.ready.extend(lines.drain(..));
        }
    }
}

fn events(lines: Lines) -> impl Stream<Item = std::result::Result<sse::Event, Infallible>> {
    stream::unfold(Some(lines), |lines| async move {
        let mut lines = lines?;
        let (event, data, next) = match lines.next().await {
            Ok(Some(line)) => {
                let data = serde_json::to_string(&line).expect("strings have no failing serializer");
                ("log", data, Some(lines))
            }
            Ok(None) => ("end", "the log ends here".to_owned(), None),
            Err(reason) => ("end", reason, None),
        };
        Some((Ok(sse::Event::default().event(event).data(data)), next))
    })
}

/// Which service of the edge leads to a Docker Engine.
async fn engine_of(state: &ApiState, edge: &EdgeName, wanted: Option<ServiceName>) -> Result<ServiceName> {
    let snapshot = match state.tunnels.snapshot(edge).await {
        Ok(blob) => unpack(blob.gzip.into()).await.map_err(Problem::internal)?,
        Err(AdminError::NoSnapshot) => Snapshot::default(),
        Err(error) => return Err(error.into()),
    };
    let record = state.tunnels.edge(edge).await?;
    engines(&record, &snapshot).find(|engine| wanted.as_ref().is_none_or(|wanted| wanted == engine)).ok_or_else(|| {
        let what = wanted.map(|service| format!("service {service} of ")).unwrap_or_default();
        let detail = format!(
            "the last snapshot of edge {edge} shows no Docker Engine at {what}it; expose one (docker=unix:///var/run/docker.sock) \
             and take a snapshot"
        );
        Problem::new(Code::EngineNotFound, detail)
    })
}

/// Services of an edge that lead to a Docker Engine: those of its snapshot, and before there is one what is named as
/// everybody names it.
pub fn engines(edge: &Edge, snapshot: &Snapshot) -> impl Iterator<Item = ServiceName> {
    let announced: Vec<_> = edge.instances.iter().flat_map(|instance| &instance.services).collect();
    let seen = snapshot.docker.iter().filter_map(|engine| engine.service.parse::<ServiceName>().ok());
    let mut engines: Vec<_> = seen
        .filter(|name| announced.is_empty() || announced.iter().any(|service| service.name == *name))
        .collect();
    let is_docker =
        |kind: ServiceKind, name: &ServiceName| kind == ServiceKind::Unix && name.as_str() == "docker";
    let by_name = announced.iter().find(|service| is_docker(service.kind, &service.name));
    if let Some(service) = by_name.filter(|service| !engines.contains(&service.name)) {
        engines.push(service.name.clone());
    }
    engines.into_iter()
}
