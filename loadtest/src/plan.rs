//! What is measured, and in which order. Pure.
//!
//! The rule: whatever is compared runs in the same round, in turn, and each round begins with another way; so that a
//! machine that is busy for a while, or warm caches, favour nobody.

use serde::{Deserialize, Serialize};

/// A way from an operator to the service behind the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Way {
    /// A TCP connection from the operator straight to the service: what the path itself gives.
    #[serde(rename = "plain TCP")]
    Direct,
    /// `Upgrade: tcp` at the gateway, plain: the operator is on the gateway's machine.
    #[serde(rename = "tidegate upgrade")]
    Upgrade,
    /// The port that `ssh -R` opens at the server, plain: the operator is on the server's machine.
    #[serde(rename = "ssh -R")]
    SshRemote,
    /// A port that rathole opens at its server, over plain TCP.
    #[serde(rename = "rathole")]
    Rathole,
    /// The same over TLS.
    #[serde(rename = "rathole TLS")]
    RatholeTls,
    /// The same over Noise.
    #[serde(rename = "rathole Noise")]
    RatholeNoise,
    /// A port that bore opens at its server, over plain TCP.
    #[serde(rename = "bore")]
    Bore,
    /// `tidegate connect --listen`, TLS to the gateway: the operator is anywhere.
    #[serde(rename = "tidegate connect")]
    Connect,
    /// `ssh -L` to the port that `ssh -R` opens: the operator is anywhere.
    #[serde(rename = "ssh -R and -L")]
    SshBoth,
}

impl Way {
    /// Where the operator is at the server; each of our ways before those that it is compared with.
    pub const ALL: [Self; 8] = [
        Self::Upgrade,
        Self::SshRemote,
        Self::Rathole,
        Self::RatholeTls,
        Self::RatholeNoise,
        Self::Bore,
        Self::Connect,
        Self::SshBoth,
    ];
    /// Over a path between the agent and the gateway: with one operator, who is at the server, and without a tunnel.
    pub const OVER_A_PATH: [Self; 7] = [
        Self::Direct,
        Self::Upgrade,
        Self::SshRemote,
        Self::Rathole,
        Self::RatholeTls,
        Self::RatholeNoise,
        Self::Bore,
    ];

    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "plain TCP",
            Self::Upgrade => "tidegate upgrade",
            Self::SshRemote => "ssh -R",
            Self::Rathole => "rathole",
            Self::RatholeTls => "rathole TLS",
            Self::RatholeNoise => "rathole Noise",
            Self::Bore => "bore",
            Self::Connect => "tidegate connect",
            Self::SshBoth => "ssh -R and -L",
        }
    }

    /// Of a peer: our way that is compared with it, with as many processes and legs.
    pub fn rival(self) -> Option<Self> {
        match self {
            Self::Upgrade | Self::Connect => None,
            Self::Direct
            | Self::SshRemote
            | Self::Rathole
            | Self::RatholeTls
            | Self::RatholeNoise
            | Self::Bore => Some(Self::Upgrade),
            Self::SshBoth => Some(Self::Connect),
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

    /// The cases over a path, where one stream says what the path allows.
    pub const OVER_A_PATH: [Self; 2] = [Self::ALL[0], Self::ALL[1]];

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
    /// A new stream for each request, one after the other; the request is the stream's first bytes, so its answer says
    /// that the stream is there.
    SetUp,
}

impl Requests {
    /// Every case of the latency report.
    pub const ALL: [Self; 4] = [Self::One, Self::ThirtyTwo, Self::BesideBulk, Self::SetUp];

    /// As the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "1 connection",
            Self::ThirtyTwo => "32 connections",
            Self::BesideBulk => "1 beside bulk",
            Self::SetUp => "stream set-up",
        }
    }

    /// Connections that ask at once.
    pub fn connections(self) -> u32 {
        match self {
            Self::One | Self::BesideBulk | Self::SetUp => 1,
            Self::ThirtyTwo => 32,
        }
    }
}

/// One round: every case through every one of these ways, the ways in turn. `round` counts from 0 and turns their order.
pub fn round<C: Copy>(round: u32, cases: &[C], ways: &[Way]) -> Vec<(C, Way)> {
    let first = round as usize % ways.len().max(1);
    let turned = || ways.iter().cycle().skip(first).take(ways.len());
    cases.iter().flat_map(|case| turned().map(|way| (*case, *way))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_every_case_through_every_way_once() {
        for number in 0..9 {
            let steps = round(number, &Bulk::ALL, &Way::ALL);
            assert_eq!(steps.len(), Bulk::ALL.len() * Way::ALL.len());
            for case in Bulk::ALL {
                for way in Way::ALL {
                    assert_eq!(steps.iter().filter(|step| **step == (case, way)).count(), 1, "{way:?}");
                }
            }
        }
        assert_eq!(round(3, &Bulk::ALL, &[]), []);
    }

    #[test]
    fn each_way_begins_as_often_as_any_other() {
        let ways = [Way::Upgrade, Way::SshRemote, Way::Bore];
        let begins: Vec<Way> = (0..3).map(|number| round(number, &Requests::ALL, &ways)[0].1).collect();
        assert_eq!(begins, ways);
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
    fn a_peer_is_compared_with_one_of_ours_that_runs_beside_it() {
        for ways in [&Way::ALL[..], &Way::OVER_A_PATH] {
            for way in ways {
                let ours = way.name().starts_with("tidegate");
                assert_eq!(way.rival().is_none(), ours, "{way:?}");
                assert!(way.rival().is_none_or(|rival| ways.contains(&rival)), "{way:?}");
            }
        }
    }

    #[test]
    fn ways_are_called_the_same_in_the_report_and_in_its_json() {
        for way in Way::ALL.into_iter().chain(Way::OVER_A_PATH) {
            assert_eq!(serde_json::to_value(way).expect("a name"), way.name());
        }
    }
}
