//! The one task that owns the registry of edges and runs its commands; [`Tunnels`] is its handle.
//!
//! Everything that asks or changes something about an edge goes through here: check-ins, tunnel logins, the admin API,
//! operators' streams. No lock is held anywhere while the store or a peer is awaited.

use std::net::IpAddr;
use std::sync::Arc;

use shared::id::{EdgeKey, EdgeName, EndpointId, ServiceName};
use shared::wire::admin;
use shared::wire::check_in::{Answer, CheckIn, Identity};

use crate::domain::edge::{Records, Settings};
pub use crate::domain::refusal::{AdminError, CheckInRefusal, OpenError};
use crate::link::Stream;
use crate::store::{SnapshotBlob, Store, StoreError};

/// Where a check-in came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The agent's address.
    pub address: IpAddr,
    /// Where this agent reaches the tunnel server, `host:port`: what the operator configured, else the host by which the
    /// agent addressed the API, with the tunnel server's port. It goes into the offer.
    pub ssh: String,
}

/// The answer to a check-in that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckInAnswer {
    /// 204: nothing changed since the last answer.
    Unchanged,
    /// 200.
    Changed(Answer),
}

/// A freshly made edge: what the admin API shows once.
#[derive(Clone, Debug)]
pub struct NewEdge {
    /// Its public id.
    pub endpoint: EndpointId,
    /// Its name.
    pub name: EdgeName,
    /// Its key, of which the gateway keeps a digest only.
    pub key: EdgeKey,
}

/// Which edges `GET /api/v1/edges` lists.
#[derive(Clone, Debug, Default)]
pub struct EdgeQuery {
    /// Part of a name or a whole tag.
    pub text: Option<String>,
    /// Only those with this status.
    pub status: Option<admin::EdgeStatus>,
    /// Only names after this one.
    pub after: Option<EdgeName>,
    /// At most so many.
    pub limit: usize,
}

/// Handle of the registry's task. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tunnels {}

impl Tunnels {
    /// Starts the task. It ends when the last handle is dropped.
    pub fn start(_store: Arc<dyn Store>, _records: Records) -> Self {
        todo!()
    }

    /// Answers a check-in.
    pub async fn check_in(
        &self,
        _who: Identity,
        _body: CheckIn,
        _origin: Origin,
    ) -> Result<CheckInAnswer, CheckInRefusal> {
        todo!()
    }

    /// Whose snapshot this is, if the agent may put one.
    pub async fn identify(&self, _who: &Identity) -> Result<EndpointId, CheckInRefusal> {
        todo!()
    }

    /// Stores the snapshot and wakes whoever waits for one of this edge.
    pub async fn put_snapshot(&self, _edge: EndpointId, _snapshot: SnapshotBlob) -> Result<(), StoreError> {
        todo!()
    }

    /// Creates an edge; durable before it returns.
    pub async fn create_edge(&self, _new: admin::CreateEdge) -> Result<NewEdge, AdminError> {
        todo!()
    }

    /// A page of edges in order of name.
    pub async fn edges(&self, _query: EdgeQuery) -> admin::EdgePage {
        todo!()
    }

    /// One edge.
    pub async fn edge(&self, _name: &EdgeName) -> Result<admin::Edge, AdminError> {
        todo!()
    }

    /// Changes an edge; durable before it returns.
    pub async fn change_edge(
        &self,
        _name: &EdgeName,
        _change: admin::ChangeEdge,
    ) -> Result<admin::Edge, AdminError> {
        todo!()
    }

    /// Frees the binding and closes the tunnel; durable before it returns.
    pub async fn dissociate(&self, _name: &EdgeName) -> Result<(), AdminError> {
        todo!()
    }

    /// Deletes the edge, revokes its key and closes its tunnel; durable before it returns.
    pub async fn delete_edge(&self, _name: &EdgeName) -> Result<(), AdminError> {
        todo!()
    }

    /// Raises the flag.
    pub async fn raise(&self, _name: &EdgeName) -> Result<admin::Tunnel, AdminError> {
        todo!()
    }

    /// Lowers the flag and closes the tunnel.
    pub async fn lower(&self, _name: &EdgeName) -> Result<admin::Tunnel, AdminError> {
        todo!()
    }

    /// Settings in force.
    pub async fn settings(&self) -> Settings {
        todo!()
    }

    /// Changes settings; durable before it returns.
    pub async fn change_settings(&self, _change: admin::Settings) -> Result<Settings, AdminError> {
        todo!()
    }

    /// The edge's last snapshot.
    pub async fn snapshot(&self, _name: &EdgeName) -> Result<SnapshotBlob, AdminError> {
        todo!()
    }

    /// Has the agent take a snapshot now (opening the tunnel for it) and waits for it.
    pub async fn take_snapshot(&self, _name: &EdgeName) -> Result<SnapshotBlob, OpenError> {
        todo!()
    }

    /// Opens a stream to a service of an edge: raises the flag where the tunnel is closed, and waits a bounded time.
    /// Dropping the future gives up: the flag is lowered unless others want it. The stream holds the tunnel for as
    /// long as it lives.
    pub async fn open(&self, _edge: &EdgeName, _service: &ServiceName) -> Result<Stream, OpenError> {
        todo!()
    }

    /// Takes no new work from now on. Streams that are live go on.
    pub async fn drain(&self) {
        todo!()
    }

    /// Streams that are live now, for the drain.
    pub fn live_streams(&self) -> usize {
        todo!()
    }
}
