//! What may be had after login: memory for everything together, streams and requests for each operator.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`memory`] | the ledger of memory: what is reserved, for what, up to which part of the budget |
//! | [`shares`] | so much for each, so much for all, and equal shares where it is scarce |
//! | [`available`] | how much memory this process may have |
//!
//! The rule: new work is refused with a reason before it could take memory from what is under way, and each kind of work
//! stops before the one that matters more: streams first, then tunnels, connections last, so that agents go on checking in.
//! What one tunnel may have is [`crate::link`]'s business, and who may be here before login [`crate::admission`]'s.

pub mod available;
pub mod memory;
pub mod shares;

use crate::telemetry::{Telemetry, WorkLabel};
use memory::{Memory, Reservation, Use};
use shares::{Share, Shares};

/// Streams of one operator, over all their connections and requests. A team's scripts stay far below.
pub const STREAMS_OF_OPERATOR: usize = 1024;
/// Streams of all operators.
pub const STREAMS: usize = 16_384;
/// Requests of one operator that are being dealt with at a time.
pub const REQUESTS_OF_OPERATOR: usize = 512;
/// Requests of all operators.
pub const REQUESTS: usize = 4096;

/// Why there is no room for new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Of memory.
    #[error(
        "the gateway's memory budget is used up; try again when others are done, or raise --memory-budget-mib"
    )]
    Memory,
    /// Of this operator's streams.
    #[error(
        "you have {STREAMS_OF_OPERATOR} streams, or your equal share of those that the gateway has; close some first"
    )]
    StreamsOfOperator,
    /// Of all streams.
    #[error("the gateway carries {STREAMS} streams already; try again when others are done")]
    Streams,
    /// Of this operator's requests.
    #[error(
        "{REQUESTS_OF_OPERATOR} requests of yours, or your equal share, are under way; wait for their answers"
    )]
    RequestsOfOperator,
    /// Of all requests.
    #[error("the gateway is busy with {REQUESTS} requests; try again in a moment")]
    Requests,
}

/// What there is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget {
    memory: Memory,
    streams: Shares,
    requests: Shares,
    telemetry: Telemetry,
}

/// Room for a stream, until it is dropped.
#[derive(Debug)]
pub struct StreamRoom {
    _memory: Reservation,
    _share: Share,
}

/// A request that is being dealt with, until it is dropped.
#[derive(Debug)]
pub struct RequestRoom {
    _share: Share,
}

impl Budget {
    /// Of this memory.
    pub fn new(memory: Memory, telemetry: Telemetry) -> Self {
        let streams = Shares::new(STREAMS_OF_OPERATOR, STREAMS);
        let requests = Shares::new(REQUESTS_OF_OPERATOR, REQUESTS);
        Self { memory, streams, requests, telemetry }
    }

    /// Room for a connection or a tunnel.
    pub fn reserve(&self, what: Use) -> Result<Reservation, Full> {
        let reserved = self.memory.reserve(what);
        reserved.ok_or_else(|| self.refused(what.label(), Full::Memory))
    }

    /// Room for an operator's stream.
    pub fn stream(&self, operator: &str) -> Result<StreamRoom, Full> {
        let share = self.streams.take(operator).map_err(|short| match short {
            shares::Short::Each => self.refused(WorkLabel::StreamOfOperator, Full::StreamsOfOperator),
            shares::Short::All => self.refused(WorkLabel::Stream, Full::Streams),
        })?;
        Ok(StreamRoom { _memory: self.reserve(Use::Stream)?, _share: share })
    }

    /// Room for an operator's request.
    pub fn request(&self, operator: &str) -> Result<RequestRoom, Full> {
        let share = self.requests.take(operator).map_err(|short| match short {
            shares::Short::Each => self.refused(WorkLabel::RequestOfOperator, Full::RequestsOfOperator),
            shares::Short::All => self.refused(WorkLabel::Request, Full::Requests),
        })?;
        Ok(RequestRoom { _share: share })
    }

    /// The ledger.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    fn refused(&self, work: WorkLabel, full: Full) -> Full {
        self.telemetry.refused_work(work);
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(mib: u64) -> Budget {
        Budget::new(Memory::new(mib << 20, 0), Telemetry::default())
    }

    #[test]
    fn streams_stop_before_tunnels_and_tunnels_before_connections() {
        let budget = budget(64);
        let streams: Vec<_> =
            (0..).map_while(|number| budget.stream(&format!("operator-{number}")).ok()).collect();
        assert!(!streams.is_empty());
        assert_eq!(budget.stream("ada").map(drop), Err(Full::Memory));
        let tunnels: Vec<_> = (0..).map_while(|_| budget.reserve(Use::Tunnel).ok()).collect();
        assert!(!tunnels.is_empty());
        let connections: Vec<_> = (0..).map_while(|_| budget.reserve(Use::Http).ok()).collect();
        assert!(!connections.is_empty());
        assert!(budget.memory().used() <= 64 << 20);
        drop(streams);
        assert!(budget.stream("ada").is_ok(), "what was given back can be had again");
    }

    #[test]
    fn an_operator_has_so_many_streams_and_others_have_theirs() {
        let budget = budget(1 << 20);
        let mine: Vec<_> = (0..).map_while(|_| budget.stream("ada").ok()).collect();
        assert_eq!(mine.len(), STREAMS_OF_OPERATOR);
        assert_eq!(budget.stream("ada").map(drop), Err(Full::StreamsOfOperator));
        assert!(budget.stream("grace").is_ok());
    }

    #[test]
    fn what_is_refused_for_lack_of_memory_takes_no_share() {
        let budget = budget(0);
        for _ in 0..2 * STREAMS_OF_OPERATOR {
            assert_eq!(budget.stream("ada").map(drop), Err(Full::Memory));
        }
        let requests: Vec<_> = (0..).map_while(|_| budget.request("ada").ok()).collect();
        assert_eq!(requests.len(), REQUESTS_OF_OPERATOR);
    }
}
