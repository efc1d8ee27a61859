//! What a gateway shows before anybody trusts it: the certificate on one port, the host key on the other. For `doctor`,
//! and for asking a person whether to trust a gateway that is new to them.
//!
//! The rule: a connection made here ends once it has shown its key. Nothing is sent over it, so nothing can be told to
//! somebody who stands in between.

mod host_key;
mod tls;

use std::time::Duration;

pub use host_key::host_key;
pub use tls::{Certificate, certificate};

use crate::dial::DialError;
use crate::host_port::HostPort;

/// Longest wait for a key exchange of either kind, over a slow satellite link.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Why nothing was shown.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It can't be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It accepted the connection and then said nothing.
    #[error("{address} accepts connections and says nothing within {} s", TIMEOUT.as_secs())]
    Silent {
        /// What was dialled.
        address: HostPort,
    },
    /// Something else than TLS is there.
    #[error("{address} does not speak TLS: {source}")]
    NoTls {
        /// What was dialled.
        address: HostPort,
        /// Why.
        source: std::io::Error,
    },
    /// Something else than SSH is there.
    #[error("{address} does not speak SSH: {source}")]
    NoSsh {
        /// What was dialled.
        address: HostPort,
        /// Why.
        source: russh::Error,
    },
    /// It has a certificate that can't be read.
    #[error("the certificate of {address} can't be read: {source}")]
    Unreadable {
        /// What was dialled.
        address: HostPort,
        /// Why.
        source: rustls::Error,
    },
}
