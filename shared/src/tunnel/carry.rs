//! One stream: the pump between a channel and a local connection.

use tokio::io::{AsyncRead, AsyncWrite};

/// The local end of a stream: a socket, or whatever stands for one.
pub trait Local: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Ends the connection so that its peer sees a reset, not an orderly end, where that can be told apart (TCP: RST by
    /// SO_LINGER 0). Called once, right before the drop.
    fn reset(&mut self);
}

/// How a stream ended, and what it carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CarryEnd {
    /// Bytes from the channel to the local end.
    pub received: u64,
    /// Bytes from the local end to the channel.
    pub sent: u64,
    /// Both directions ended in order (as opposed to a reset or a broken tunnel).
    pub orderly: bool,
}
