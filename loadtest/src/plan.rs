//! What is measured, and in which order. Pure.
//!
//! The rule: whatever is compared runs in the same round, in turn, and each round begins with another way; so that a
//! machine that is busy for a while, or warm caches, favour nobody.

use serde::{Deserialize, Serialize};

/// A way from an operator to the service behind the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Way {
    /// `Upgrade: tcp` at the gateway, plain: the operator is on the gateway's machine.
    #[serde(rename = "tidegate upgrade")]
    Upgrade,
    /// The port that `ssh -R` opens at the server, plain: the operator is on the server's machine.
    #[serde(rename = "ssh -R")]
    SshRemote,
    /// `tidegate connect --listen`, TLS to the gateway: the operator is anywhere.
    #[serde(rename = "tidegate connect")]
    Connect,
    /// `ssh -L` to the port that `ssh -R` opens: the operator is anywhere.
    #[serde(rename = "ssh -R and -L")]
    SshBoth,
}

impl Way {
    /// All of them; each of ours before its peer.
    pub const ALL: [Self; 4] = [Self::Upgrade, Self::SshRemote, Self::Connect, Self::SshBoth];

    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Upgrade => "tidegate upgrade",
            Self::SshRemote => "ssh -R",
            Self::Connect => "tidegate connect",
            Self::SshBoth => "ssh -R and -L",
        }
    }

    /// The way with as many processes and encrypted legs that it is compared with.
    pub fn peer(self) -> Option<Self> {
        match self {
            Self::Upgrade => Some(Self::SshRemote),
            Self::Connect => Some(Self::SshBoth),
            Self::SshRemote | Self::SshBoth => None,
        }
    }
}

/// Where bulk data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// From the service to the operator.
    #[serde(rename = "edge → operator")]
    EdgeToOperator,
    /// From the operator to the service.
    #[serde(rename = "operator → edge")]
    OperatorToEdge,
}

impl Direction {
    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::EdgeToOperator => "edge → operator",
            Self::OperatorToEdge => "operator → edge",
        }
    }
}

/// Bulk data in so many streams at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bulk {
    /// Streams at once.
    pub streams: u32,
    /// Where the data goes.
    pub direction: Direction,
}

impl Bulk {
    /// Every case of the throughput report.
    pub const ALL: [Self; 4] = [
        Self { streams: 1, direction: Direction::EdgeToOperator },
        Self { streams: 1, direction: Direction::OperatorToEdge },
        Self { streams: 8, direction: Direction::EdgeToOperator },
        Self { streams: 8, direction: Direction::OperatorToEdge },
    ];

    /// How many of `total` bytes each stream carries; the shares add up to `total`.
    pub fn shares(self, total: u64) -> Vec<u64> {
        let streams = u64::from(self.streams);
        (0..streams).map(|number| total / streams + u64::from(number < total % streams)).collect()
    }
}

/// What kind of small requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requests {
    /// One connection, one request after the other.
    One,
    /// 32 connections, on each one request after the other.
    ThirtyTwo,
    /// One connection, while a bulk stream runs from the edge to the operator through the same tunnel.
    BesideBulk,
    /// A new connection for each request, one after the other.
    NewConnections,
}

impl Requests {
    /// Every case of the latency report.
    pub const ALL: [Self; 4] = [Self::One, Self::ThirtyTwo, Self::BesideBulk, Self::NewConnections];

    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "1 connection",
            Self::ThirtyTwo => "32 connections",
            Self::BesideBulk => "1 beside bulk",
            Self::NewConnections => "new connections",
        }
    }

    /// Connections that ask at once.
    pub fn connections(self) -> u32 {
        match self {
            Self::One | Self::BesideBulk | Self::NewConnections => 1,
            Self::ThirtyTwo => 32,
        }
    }
}

/// One round: every case through every way, the ways in turn. `round` counts from 0 and turns their order.
pub fn round<C: Copy>(round: u32, cases: &[C]) -> Vec<(C, Way)> {
    let first = round as usize % Way::ALL.len();
    let ways = || Way::ALL.into_iter().cycle().skip(first).take(Way::ALL.len());
    cases.iter().flat_map(|case| ways().map(|way| (*case, way))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_every_case_through_every_way_once() {
        for number in 0..9 {
            let steps = round(number, &Bulk::ALL);
            assert_eq!(steps.len(), Bulk::ALL.len() * Way::ALL.len());
            for case in Bulk::ALL {
                for way in Way::ALL {
                    assert_eq!(steps.iter().filter(|step| **step == (case, way)).count(), 1, "{way:?}");
                }
            }
        }
    }

    #[test]
    fn each_way_begins_as_often_as_any_other() {
        let begins: Vec<Way> = (0..4).map(|number| round(number, &Requests::ALL)[0].1).collect();
        assert_eq!(begins, Way::ALL);
    }

    #[test]
    fn shares_of_streams_add_up() {
        for (streams, total) in [(1, 0), (1, 10), (8, 3), (8, 1_000_001)] {
            let bulk = Bulk { streams, direction: Direction::EdgeToOperator };
            let shares = bulk.shares(total);
            assert_eq!((shares.len(), shares.iter().sum::<u64>()), (streams as usize, total));
        }
    }

    #[test]
    fn the_peer_of_ours_is_a_way_of_openssh() {
        for way in Way::ALL {
            let ours = way.name().starts_with("tidegate");
            assert_eq!(way.peer().is_some_and(|peer| peer.name().starts_with("ssh")), ours, "{way:?}");
        }
    }
}
