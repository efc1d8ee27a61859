//! Why an agent could not reach a service, as the reason code of SSH_MSG_CHANNEL_OPEN_FAILURE.
//!
//! russh keeps the code and drops the text, so the code says all. RFC 4254 §5.1 leaves 0xFE000000 to 0xFFFFFFFF to
//! private use.

use std::fmt;

use russh::ChannelOpenFailure;

/// Why an agent did not connect a stream to its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DialFailure {
    /// Nothing listens on the target's port.
    Refused,
    /// The target did not answer in time.
    Timeout,
    /// The target's name has no address.
    NoSuchHost,
    /// There is no route to the target.
    Unreachable,
    /// The target's unix socket does not exist.
    NoSuchSocket,
    /// The agent may not open the target's unix socket.
    PermissionDenied,
    /// The agent exposes no service of this name.
    NoSuchService,
    /// The tunnel has as many streams as it may have.
    TooManyStreams,
    /// The agent is closing the tunnel.
    Closing,
    /// Anything else; the agent's log has the error.
    Other,
}

/// Every failure with its code. Codes are part of the protocol: add, never renumber.
const CODES: [(DialFailure, u32); 10] = [
    (DialFailure::Refused, 0xFE00_0001),
    (DialFailure::Timeout, 0xFE00_0002),
    (DialFailure::NoSuchHost, 0xFE00_0003),
    (DialFailure::Unreachable, 0xFE00_0004),
    (DialFailure::NoSuchSocket, 0xFE00_0005),
    (DialFailure::PermissionDenied, 0xFE00_0006),
    (DialFailure::NoSuchService, 0xFE00_0007),
    (DialFailure::TooManyStreams, 0xFE00_0008),
    (DialFailure::Closing, 0xFE00_0009),
    (DialFailure::Other, 0xFE00_00FF),
];

impl DialFailure {
    /// What an agent rejects the channel with.
    pub fn to_open_failure(self) -> ChannelOpenFailure {
        let (_, code) = CODES.iter().find(|(failure, _)| *failure == self).expect("every failure has a code");
        ChannelOpenFailure::Other { code: *code, reason: self.to_string() }
    }

    /// What a rejected channel means. Stock clients use the standard codes.
    pub fn from_open_failure(failure: &ChannelOpenFailure) -> Self {
        match failure {
            ChannelOpenFailure::ConnectFailed => Self::Refused,
            ChannelOpenFailure::ResourceShortage => Self::TooManyStreams,
            ChannelOpenFailure::AdministrativelyProhibited | ChannelOpenFailure::UnknownChannelType => {
                Self::NoSuchService
            }
            ChannelOpenFailure::Other { code, .. } => {
                CODES.iter().find(|(_, known)| known == code).map_or(Self::Other, |(failure, _)| *failure)
            }
        }
    }
}

impl fmt::Display for DialFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused: nothing listens at the service's target",
            Self::Timeout => "the service's target did not answer in time",
            Self::NoSuchHost => "the service's target name has no address",
            Self::Unreachable => "there is no route to the service's target",
            Self::NoSuchSocket => "the service's unix socket does not exist",
            Self::PermissionDenied => "the agent may not open the service's unix socket",
            Self::NoSuchService => "the agent does not expose this service",
            Self::TooManyStreams => "the tunnel has as many streams as it may have; close some first",
            Self::Closing => "the agent is closing the tunnel",
            Self::Other => "the agent could not connect to the service's target; its log says why",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_survives_its_code() {
        for (failure, _) in CODES {
            let ChannelOpenFailure::Other { code, .. } = failure.to_open_failure() else {
                panic!("a private code");
            };
            // russh replaces the text on receipt.
            let received = ChannelOpenFailure::Other { code, reason: format!("Unknown code {code}") };
            assert_eq!(DialFailure::from_open_failure(&received), failure);
        }
    }

    #[test]
    fn unknown_codes_are_other() {
        let received = ChannelOpenFailure::Other { code: 77, reason: String::new() };
        assert_eq!(DialFailure::from_open_failure(&received), DialFailure::Other);
    }
}
