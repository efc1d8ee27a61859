//! One live tunnel as the rest of the gateway sees it, and the streams inside.

use shared::tunnel::carry::{CarryEnd, Local};
use tokio::io::{AsyncRead, AsyncWrite};

/// One open stream to a service. It holds its tunnel open until it is dropped or carried to its end.
#[derive(Debug)]
pub struct Stream {}

impl Stream {
    /// Carries bytes between the service and `local` until both directions are done.
    pub async fn carry<L: Local>(self, _local: L) -> CarryEnd {
        todo!()
    }

    /// The stream as something to read from and write to: for an HTTP client. A reset of the service shows as
    /// `ConnectionReset`.
    pub fn into_io(self) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
        tokio::io::empty()
    }
}
