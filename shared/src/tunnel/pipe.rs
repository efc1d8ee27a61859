//! A stream as something to read from and write to, for code that wants an `AsyncRead + AsyncWrite` of its own: an HTTP
//! client, say. One end is carried ([`super::carry::Local`]), the other is used.
//!
//! The rule: an end that is dropped without a shutdown was given up, and that is a reset for the other side, not an
//! orderly end; and the carried side notices a drop though it has nothing to write, since a stream that nobody reads
//! must not hold its tunnel.

use std::convert::Infallible;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::oneshot;

use super::carry::Local;

/// Bytes that wait in each direction. Two messages: enough to keep both sides busy, little for an idle request.
const CAPACITY: usize = 64 * 1024;

/// Two ends; what is written to one is read from the other.
pub fn pipe() -> (CarriedEnd, UserEnd) {
    let (carried, user) = tokio::io::duplex(CAPACITY);
    let (reset, finished) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (alive, gone) = oneshot::channel();
    let user =
        UserEnd { io: user, reset: Arc::clone(&reset), finished: Arc::clone(&finished), _alive: alive };
    (CarriedEnd { io: carried, reset, finished, gone }, user)
}

/// The end that a stream is carried to.
#[derive(Debug)]
pub struct CarriedEnd {
    io: DuplexStream,
    /// This end was reset.
    reset: Arc<AtomicBool>,
    /// The other end was shut down.
    finished: Arc<AtomicBool>,
    /// Fails once the other end is dropped.
    gone: oneshot::Receiver<Infallible>,
}

impl Local for CarriedEnd {
    fn reset(&mut self) {
        self.reset.store(true, Relaxed);
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(Pin::new(&mut self.gone).poll(cx)) {
            Ok(never) => match never {},
            Err(_) => Poll::Ready(()),
        }
    }
}

/// The end that is read and written. After a reset of the other one, reading fails with `ConnectionReset` where it
/// would have shown an orderly end; dropped before it was shut down, it shows the other one the same.
#[derive(Debug)]
pub struct UserEnd {
    io: DuplexStream,
    reset: Arc<AtomicBool>,
    finished: Arc<AtomicBool>,
    _alive: oneshot::Sender<Infallible>,
}

/// So that a channel of another connection can be carried to it.
impl Local for UserEnd {
    /// The drop that follows is one, unless it was shut down before; then the carried side notices the drop.
    fn reset(&mut self) {}
}

impl AsyncRead for UserEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let ended = buffer.filled().len() == before && buffer.remaining() > 0;
        Poll::Ready(if ended && self.reset.load(Relaxed) { Err(reset()) } else { Ok(()) })
    }
}

impl AsyncRead for CarriedEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let ended = buffer.filled().len() == before && buffer.remaining() > 0;
        Poll::Ready(if ended && !self.finished.load(Relaxed) { Err(reset()) } else { Ok(()) })
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncWrite for UserEnd {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Before the pipe shows its end to the other side.
        self.finished.store(true, Relaxed);
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl AsyncWrite for CarriedEnd {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn an_end_that_is_given_up_is_a_reset_for_the_other_and_one_that_is_shut_down_is_not() {
        for shut_down in [false, true] {
            let (mut carried, mut user) = pipe();
            user.write_all(b"part").await.expect("room");
            if shut_down {
                user.shutdown().await.expect("a pipe always ends");
            }
            drop(user);
            let mut all = Vec::new();
            let result = carried.read_to_end(&mut all).await;
            assert_eq!(all, b"part");
            assert_eq!(result.is_err(), !shut_down, "{result:?}");
        }
    }

    #[tokio::test]
    async fn the_carried_end_notices_that_the_other_is_gone_without_a_write() {
        let (mut carried, mut user) = pipe();
        user.shutdown().await.expect("a pipe always ends");
        let mut gone = poll_fn(|cx| carried.poll_gone(cx));
        assert!((&mut gone).now_or_never().is_none());
        drop(user);
        gone.await;
    }

    #[tokio::test]
    async fn an_orderly_end_and_a_reset_look_different() {
        for reset in [false, true] {
            let (mut carried, mut user) = pipe();
            carried.write_all(b"part").await.expect("room");
            if reset {
                carried.reset();
            }
            drop(carried);
            let mut all = Vec::new();
            let result = user.read_to_end(&mut all).await;
            assert_eq!(all, b"part");
            assert_eq!(
                result.map_err(|error| error.kind()).err(),
                reset.then_some(io::ErrorKind::ConnectionReset)
            );
        }
    }
}
