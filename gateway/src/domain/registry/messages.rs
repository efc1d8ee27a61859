//! What the registry hears and what it says.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::fingerprint::HostKeyFingerprint;
use shared::id::{EdgeId, EdgeName, EndpointId, KeyDigest, ServiceName};
use shared::tunnel::control::ToAgent;
use shared::wire::admin;
use shared::wire::check_in::{CheckIn, Identity};

use crate::domain::edge::{Change, StockKey};
use crate::domain::event;
use crate::domain::refusal::{AdminError, CheckInRefusal, OpenError, StoreError};
use crate::domain::standing::Standing;
use crate::domain::tunnel::{LinkId, Offer, WaiterId};
use crate::domain::version::Condition;

/// Refers to whoever waits for an answer; the driver knows who.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// A durable change that is being committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// Where a check-in came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The agent's address.
    pub address: std::net::IpAddr,
    /// Where this agent reaches the tunnel server, `host:port`: what the operator configured, else the host by which the
    /// agent addressed the API, with the tunnel server's port. It goes into the offer.
    pub ssh: String,
}

/// What happens.
#[derive(Debug)]
pub enum Event {
    /// An agent checks in.
    CheckIn {
        /// Who waits for the answer.
        token: Token,
        /// Its edge ID, key and instance.
        who: Identity,
        /// What it reports.
        body: CheckIn,
        /// Where it comes from.
        origin: Origin,
    },
    /// A durable change is asked for.
    Change {
        /// Who waits for the answer.
        token: Token,
        /// On what it depends. What is made anew depends on nothing.
        condition: Condition,
        /// Which.
        request: Request,
    },
    /// Many new edges at once: in one commit those whose names are free.
    CreateMany {
        /// Who waits for the answer.
        token: Token,
        /// Which; no name twice.
        edges: Vec<Fresh>,
        /// What all of them have.
        like: Like,
    },
    /// The store is done with a commit.
    Committed {
        /// Which.
        ticket: Ticket,
        /// How it went.
        result: Result<(), StoreError>,
    },
    /// An operator wants a stream to a service, or (without a service) the tunnel itself.
    Want {
        /// Who waits.
        waiter: WaiterId,
        /// Which edge.
        edge: EdgeName,
        /// Which service.
        service: Option<ServiceName>,
    },
    /// A waiter went away.
    GiveUp {
        /// Who.
        waiter: WaiterId,
    },
    /// A tunnel login.
    LogIn {
        /// Who waits for the answer.
        token: Token,
        /// SSH user name.
        username: String,
        /// Digest of the password.
        password: KeyDigest,
    },
    /// A login by the key of a stock SSH client, which proved that it has it.
    LogInByKey {
        /// Who waits for the answer.
        token: Token,
        /// Which key.
        key: HostKeyFingerprint,
    },
    /// An agent announced its services on its link.
    LinkUp {
        /// Which.
        link: LinkId,
        /// Its services. A stock client announces one after the other: each time all that it has so far.
        services: Vec<ServiceName>,
    },
    /// A connection that was admitted ended.
    LinkDown {
        /// Which.
        link: LinkId,
        /// Why.
        reason: String,
    },
    /// An agent asks whether it may close its idle tunnel.
    AskClose {
        /// Which link.
        link: LinkId,
    },
    /// A stream ended.
    StreamEnded {
        /// Which link carried it.
        link: LinkId,
    },
    /// The gateway takes no new work from now on.
    Drain,
    /// A deadline may have passed.
    Tick,
}

/// One of many new edges; id and key were drawn by the driver.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// Its name.
    pub name: EdgeName,
    /// Its public id.
    pub endpoint: EndpointId,
    /// Digest of its key.
    pub key: KeyDigest,
}

/// What many new edges have in common.
#[derive(Clone, Debug, Default)]
pub struct Like {
    /// Whether several instances may run with one edge ID.
    pub cluster: bool,
    /// As in [`admin::CreateEdge`].
    pub interval_s: Option<u32>,
    /// As in [`admin::CreateEdge`].
    pub idle_timeout_s: Option<u32>,
    /// As in [`admin::CreateEdge`].
    pub tags: Vec<String>,
}

/// A durable change, as an operator asks for it.
#[derive(Clone, Debug)]
pub enum Request {
    /// A new edge; id and key were drawn by the driver.
    Create {
        /// What was asked for.
        new: admin::CreateEdge,
        /// Its public id.
        endpoint: EndpointId,
        /// Digest of its key.
        key: KeyDigest,
    },
    /// Some of its fields.
    Update {
        /// Which edge.
        edge: EdgeName,
        /// What changes.
        change: admin::ChangeEdge,
    },
    /// Free the binding.
    Dissociate {
        /// Which edge.
        edge: EdgeName,
    },
    /// Free the binding and give the edge a new key; digest of the one that was drawn by the driver.
    Rotate {
        /// Which edge.
        edge: EdgeName,
        /// Digest of its new key.
        key: KeyDigest,
    },
    /// Delete the edge.
    Delete {
        /// Which edge.
        edge: EdgeName,
    },
    /// A key for a stock SSH client, in the place of the one that there was.
    AllowKey {
        /// Which edge.
        edge: EdgeName,
        /// Which key.
        key: StockKey,
    },
    /// Take back whatever stock SSH clients may log in with, and end the tunnel of one.
    RevokeStock {
        /// Which edge.
        edge: EdgeName,
    },
    /// The gateway's settings.
    Settings {
        /// What changes.
        change: admin::Settings,
    },
}

/// A check-in that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its answer.
    pub decision: Decision,
    /// How its instance stands from then on.
    pub stands: Stands,
}

/// How an instance stands, for whoever speaks with its agent.
#[derive(Clone, Debug)]
pub struct Stands {
    /// Whether there is anything new.
    pub standing: Arc<Standing>,
    /// How long its questions may be held while there is not; zero is not at all.
    pub hold: Duration,
}

/// An accepted check-in's answer.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Nothing changed since the last answer.
    Unchanged,
    /// Not needed.
    NotNeeded {
        /// When to come back.
        interval: Duration,
        /// Say hello next time.
        hello_wanted: bool,
    },
    /// Needed: these credentials are to be sealed for the edge ID that asked.
    Needed {
        /// When to come back.
        interval: Duration,
        /// The credentials.
        offer: Offer,
        /// How long they live.
        expires_in: Duration,
        /// Where to use them.
        ssh: String,
    },
}

/// A login that was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// What the connection is called from now on.
    pub link: LinkId,
    /// Whose it is.
    pub edge: EdgeName,
    /// The services that its instance announced: the only names that it may forward.
    pub services: Vec<ServiceName>,
    /// The idle time in force.
    pub idle_timeout: Duration,
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Answer a check-in.
    CheckIn {
        /// Whose.
        token: Token,
        /// With what.
        answer: Result<Accepted, CheckInRefusal>,
    },
    /// Answer a request for a change.
    Change {
        /// Whose.
        token: Token,
        /// With what.
        answer: Result<(), AdminError>,
    },
    /// Answer a request for many new edges.
    CreatedMany {
        /// Whose.
        token: Token,
        /// The names that were taken; all others are edges now.
        answer: Result<Vec<EdgeName>, AdminError>,
    },
    /// Answer a login; `None` refuses it.
    LogIn {
        /// Whose.
        token: Token,
        /// With what.
        answer: Option<Admitted>,
    },
    /// Commit the batch, then say [`Event::Committed`].
    Commit {
        /// As which ticket.
        ticket: Ticket,
        /// What.
        batch: Vec<Change>,
    },
    /// Note that an edge ID claimed the key of an edge, which is durable by now.
    Bound {
        /// Which edge.
        edge: EdgeName,
        /// Which edge ID.
        edge_id: EdgeId,
        /// Where its agent checked in from.
        address: IpAddr,
    },
    /// The waiter may open its stream on this link; [`Event::StreamEnded`] must follow some day.
    Grant {
        /// Who.
        waiter: WaiterId,
        /// Where.
        link: LinkId,
    },
    /// The waiter gets nothing.
    Deny {
        /// Who.
        waiter: WaiterId,
        /// Why.
        error: OpenError,
    },
    /// End the connection.
    Close {
        /// Which.
        link: LinkId,
        /// Why, for the agent and the log.
        reason: &'static str,
    },
    /// Tell those who watch.
    Publish(event::Event),
    /// Tell the agent.
    Tell {
        /// On which link.
        link: LinkId,
        /// What.
        message: ToAgent,
    },
}
