//! Decisions, pure: no tokio, russh, hyper or store is imported here and no clock is read. CI checks it.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`authority`] | who may do what: roles, and the edges that they reach |
//! | [`difference`] | what changed at a site between two snapshots |
//! | [`edge`] | what is durable: edge records, settings |
//! | [`event`] | what happened to an edge, for whoever watches |
//! | [`people`] | what is durable of operators: users, sessions, API tokens, SSH keys |
//! | [`tunnel`] | the life of one edge's tunnel |
//! | [`history`] | which of that the history of an edge keeps |
//! | [`instances`] | the agents of one edge: who is live, who is one too many |
//! | [`list`] | lists of edges |
//! | [`refusal`] | what is refused, and why |
//! | [`registry`] | all edges, their durable changes, and the index of deadlines |
//! | [`standing`] | how one instance stands, shared with whoever answers it without asking the registry |
//! | [`version`] | what a change may depend on |
//! | [`view`] | what the admin API shows of them |
//!
//! `now` and randomness come in as arguments; commands go out as values, and [`crate::tunnels`] runs them.

use std::time::Instant;

use edge::Timestamp;

pub mod authority;
pub mod difference;
pub mod edge;
pub mod event;
pub mod history;
pub mod instances;
pub mod list;
pub mod people;
pub mod refusal;
pub mod registry;
pub mod standing;
pub mod tunnel;
pub mod version;
pub mod view;

/// The two clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines: never jumps.
    pub instant: Instant,
    /// For people and records.
    pub wall: Timestamp,
}
