//! The attacks by name, in the order in which they are run.

use anyhow::Result;
use clap::ValueEnum;

use super::account::Account;
use super::agent::{self, credentials};
use super::field::Field;
use super::http;
use super::stranger::{self, slow};

/// One attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Attack {
    /// 10,000 sockets on port 8000 say nothing
    SlowBanner,
    /// 10,000 sockets on port 8000 stop in the middle of the key exchange
    SlowKeyExchange,
    /// 10,000 sockets on port 8000 exchange keys and never log in
    SlowLogin,
    /// 10,000 sockets on port 9000 stop in the middle of TLS
    SlowTls,
    /// 10,000 sockets on port 9000 trickle the head of a request
    SlowHead,
    /// 10,000 sockets on port 9000 trickle the body of a request
    SlowBody,
    /// 1,000 slow sockets on each port come from the address of honest agents
    SlowNeighbours,
    /// 1,000 new connections a second on each port
    Connections,
    /// Public keys are offered as fast as they are refused, from 400 connections
    KeyProbes,
    /// Passwords, API tokens and edges' keys are guessed
    Guesses,
    /// Packets are inserted before the end of a strict key exchange (Terrapin)
    Terrapin,
    /// Packets of no length, of 4 GiB, and with impossible padding, before and after the key exchange
    PacketSizes,
    /// SSH with compression, alone and beside none
    Compression,
    /// Channels, requests, key exchanges and floods before the login
    BeforeLogin,
    /// JSON that is too long, too deep, or none; fields that are not what they should be
    Json,
    /// Bodies that are small packed and large unpacked
    PackedBodies,
    /// A snapshot of 1 GiB, said in advance, in chunks, and packed
    Snapshot,
    /// Credentials again: while they are in use, afterwards, too late, and 1,000 at once
    Replay,
    /// A login under one name that goes on under another
    UserSwitch,
    /// An agent announces another edge's services, and names that are none
    Names,
    /// 10,000 channels that an agent may not open: sessions, direct-tcpip, X11, agent forwarding
    Channels,
    /// An agent speaks on channels that do not exist
    UnknownChannels,
    /// An agent confirms channels with packets of no size and windows that overflow, and sends beyond them
    Windows,
    /// An operator opens 1,000 streams and reads none
    DeafStreams,
    /// EXT_INFO, PING and global requests by the hundred thousand, whose answers nobody reads
    Floods,
    /// An agent begins new key exchanges and never ends them, or ends them at once and begins again
    Rekeys,
    /// Requests with a second one hidden in them, for a service
    RequestSmuggling,
    /// A hostile service's answers with more in them than one answer
    HostileAnswers,
    /// HTML in every field that an agent controls
    Html,
    /// Credentials of before a restart of the gateway
    ReplayAfterRestart,
}

impl Attack {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    /// On the command line and in reports.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it does, in a sentence without a full stop.
    pub fn about(self) -> String {
        let value = self.to_possible_value();
        value.and_then(|value| Some(value.get_help()?.to_string())).unwrap_or_default()
    }

    /// Whether it restarts the gateway, so that nothing honest can be judged meanwhile.
    pub fn restarts(self) -> bool {
        self == Self::ReplayAfterRestart
    }

    /// Attacks.
    ///
    /// # Errors
    /// If something that is not under attack does not work: the admin API, the attackers' own check-ins.
    pub async fn run(self, field: Field) -> Result<Account> {
        match self {
            Self::SlowBanner => slow::crowd(field, slow::Stage::Banner).await,
            Self::SlowKeyExchange => slow::crowd(field, slow::Stage::KeyExchange).await,
            Self::SlowLogin => slow::crowd(field, slow::Stage::Login).await,
            Self::SlowTls => slow::crowd(field, slow::Stage::Tls).await,
            Self::SlowHead => slow::crowd(field, slow::Stage::Head).await,
            Self::SlowBody => slow::crowd(field, slow::Stage::Body).await,
            Self::SlowNeighbours => slow::neighbours(field).await,
            Self::Connections => stranger::connections(field).await,
            Self::KeyProbes => stranger::guess::keys(field).await,
            Self::Guesses => stranger::guess::passwords(field).await,
            Self::Terrapin => stranger::wire::terrapin(field).await,
            Self::PacketSizes => stranger::wire::packet_sizes(field).await,
            Self::Compression => stranger::wire::compression(field).await,
            Self::BeforeLogin => stranger::wire::before_login(field).await,
            Self::Json => http::json(field).await,
            Self::PackedBodies => http::packed_bodies(field).await,
            Self::Snapshot => http::snapshot(field).await,
            Self::Replay => credentials::replay(field).await,
            Self::UserSwitch => credentials::user_switch(field).await,
            Self::Names => agent::names(field).await,
            Self::Channels => agent::channels(field).await,
            Self::UnknownChannels => agent::unknown_channels(field).await,
            Self::Windows => agent::streams::windows(field).await,
            Self::DeafStreams => agent::streams::deaf(field).await,
            Self::Floods => agent::flood::messages(field).await,
            Self::Rekeys => agent::flood::rekeys(field).await,
            Self::RequestSmuggling => agent::proxied::requests(field).await,
            Self::HostileAnswers => agent::proxied::answers(field).await,
            Self::Html => http::html::fields(field).await,
            Self::ReplayAfterRestart => credentials::after_restart(field).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_has_a_name_and_a_sentence_of_its_own() {
        let mut names: Vec<String> = Attack::all().map(Attack::name).collect();
        assert!(names.len() >= 30 && names.iter().all(|name| !name.is_empty()), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Attack::all().count());
        assert!(Attack::all().all(|attack| attack.about().len() > 20));
    }
}
