//! A socket that can be cut from outside, whatever is done with it at that moment.
//!
//! russh has no way to end a session that is in its key exchange, nor one that is shutting down over a backlog that its
//! peer does not read, so a limit that only asks it to disconnect would let a peer stay there for ever. Once the token is
//! cancelled, every read and write of this socket fails, also those that wait already.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Wraps a socket. See the module's text.
#[derive(Debug)]
pub struct Severable<S> {
    socket: S,
    token: CancellationToken,
    severed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Severable<S> {
    /// Cut when `token` is cancelled.
    pub fn new(socket: S, token: CancellationToken) -> Self {
        Self { socket, severed: Box::pin(token.clone().cancelled_owned()), token }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "this end cut the connection")
}

impl<S: AsyncRead + Unpin> AsyncRead for Severable<S> {
    /// A session always waits for input, so this is where it usually hears of the cut.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.severed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(cut()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Severable<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.token.is_cancelled() {
            return Poll::Ready(Err(cut()));
        }
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        // A shutdown that waits for a backlog to drain only writes: it must hear of the cut as well.
        if written.is_pending() && self.severed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(cut()));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn cut_ends_a_read_that_waits_and_every_later_write() {
        let (near, _far) = tokio::io::duplex(64);
        let token = CancellationToken::new();
        let mut socket = Severable::new(near, token.clone());
        socket.write_all(b"before").await.expect("not cut yet");
        let waiting = tokio::spawn(async move {
            let error = socket.read_u8().await.expect_err("cut");
            (error.kind(), socket.write_all(b"after").await.is_err())
        });
        tokio::task::yield_now().await;
        token.cancel();
        assert_eq!(waiting.await.expect("no panic"), (io::ErrorKind::ConnectionAborted, true));
    }

    #[tokio::test]
    async fn cut_ends_a_write_that_waits() {
        let (near, _far) = tokio::io::duplex(4);
        let token = CancellationToken::new();
        let mut socket = Severable::new(near, token.clone());
        let waiting =
            tokio::spawn(async move { socket.write_all(b"more than fits").await.map_err(|e| e.kind()) });
        tokio::task::yield_now().await;
        token.cancel();
        assert_eq!(waiting.await.expect("no panic"), Err(io::ErrorKind::ConnectionAborted));
    }
}
