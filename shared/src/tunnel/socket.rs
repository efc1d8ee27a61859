//! The TCP socket below SSH: a writer that never waits.
//!
//! russh's session loop awaits the socket's flush and reads nothing meanwhile. Two such loops that both have bulk to
//! send fill both sockets and wait for each other for ever. So this socket takes what the kernel refuses into a backlog,
//! which is written out whenever either direction is polled, and the loop goes on reading.
//!
//! The backlog is bounded twice: pumps wait for [`Backlog::room`] before they send more, and a connection whose backlog
//! passes [`HARD_LIMIT`] all the same (a peer that makes us answer and never reads) fails.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Streams stop adding data above this. With what the kernel holds it is more than a path of 100 ms at 100 Mbit/s has
/// in flight.
pub const HIGH_WATER: usize = 1 << 20;

/// A connection with more than this to write is given up. Each stream may overshoot [`HIGH_WATER`] by one read of 64
/// KiB, so an honest connection of 512 streams stays below.
pub const HARD_LIMIT: usize = 48 << 20;

/// Capacity that an empty backlog may keep.
const KEPT_CAPACITY: usize = 64 * 1024;

/// What a connection still has to write, as its pumps see it.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: AtomicUsize,
    fell: Notify,
}

impl Backlog {
    /// Bytes that the kernel has not taken yet.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Waits until the backlog is below [`HIGH_WATER`].
    pub async fn room(&self) {
        while self.bytes() >= HIGH_WATER {
            let mut fell = std::pin::pin!(self.fell.notified());
            // Registered before the second look, so that a fall in between is not missed.
            fell.as_mut().enable();
            if self.bytes() < HIGH_WATER {
                return;
            }
            fell.await;
        }
    }

    fn set(&self, bytes: usize) {
        let before = self.bytes.swap(bytes, Relaxed);
        if before >= HIGH_WATER && bytes < HIGH_WATER {
            self.fell.notify_waiters();
        }
    }
}

/// Wraps a socket for russh. See the module's text.
#[derive(Debug)]
pub struct PatientSocket<S> {
    socket: S,
    pending: BytesMut,
    backlog: Arc<Backlog>,
}

impl<S> PatientSocket<S> {
    /// Wraps `socket`.
    pub fn new(socket: S) -> Self {
        Self { socket, pending: BytesMut::new(), backlog: Arc::default() }
    }

    /// The gauge for the connection's pumps.
    pub fn backlog(&self) -> Arc<Backlog> {
        Arc::clone(&self.backlog)
    }
}

impl<S: AsyncWrite + Unpin> PatientSocket<S> {
    /// Writes as much of the backlog as the kernel takes. When some is left, the task is registered for writability.
    fn drain(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        while !self.pending.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, &self.pending) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => self.pending.advance(written),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        if self.pending.is_empty() && self.pending.capacity() > KEPT_CAPACITY {
            self.pending = BytesMut::new();
        }
        self.backlog.set(self.pending.len());
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for PatientSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.drain(cx)?;
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.drain(cx)?;
        let mut taken = 0;
        if self.pending.is_empty() {
            while taken < bytes.len() {
                match Pin::new(&mut self.socket).poll_write(cx, &bytes[taken..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(written)) => taken += written,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
        }
        let rest = &bytes[taken..];
        if !rest.is_empty() {
            if self.pending.len() + rest.len() > HARD_LIMIT {
                let reason = "the peer does not read: too much is waiting to be written to it";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)));
            }
            self.pending.extend_from_slice(rest);
            self.backlog.set(self.pending.len());
        }
        Poll::Ready(Ok(bytes.len()))
    }

    /// Never waits: what is in the backlog goes out while the connection is read.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.drain(cx)?;
        if self.pending.is_empty() { Pin::new(&mut self.socket).poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.drain(cx)?;
        if self.pending.is_empty() { Pin::new(&mut self.socket).poll_shutdown(cx) } else { Poll::Pending }
    }
}

impl<S> Drop for PatientSocket<S> {
    /// Pumps that wait for room must see that the connection is over.
    fn drop(&mut self) {
        self.backlog.set(0);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn writer_never_waits_and_nothing_is_lost_or_reordered() {
        let (near, mut far) = tokio::io::duplex(1000);
        let mut socket = PatientSocket::new(near);
        let backlog = socket.backlog();
        let sent: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        for chunk in sent.chunks(7000) {
            socket.write_all(chunk).await.expect("taken");
            socket.flush().await.expect("never waits");
        }
        assert_eq!(backlog.bytes(), sent.len() - 1000);
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.expect("readable");
            all
        });
        socket.shutdown().await.expect("after the backlog");
        drop(socket);
        assert_eq!(reader.await.expect("no panic"), sent);
        assert_eq!(backlog.bytes(), 0);
    }

    #[tokio::test]
    async fn reading_drives_the_backlog() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut socket = PatientSocket::new(near);
        socket.write_all(&[7; 5000]).await.expect("taken");
        let peer = tokio::spawn(async move {
            let mut all = vec![0; 5000];
            far.read_exact(&mut all).await.expect("all of it");
            far.write_all(b"done").await.expect("taken");
        });
        let mut answer = [0; 4];
        socket.read_exact(&mut answer).await.expect("the peer's answer");
        assert_eq!(&answer, b"done");
        peer.await.expect("no panic");
    }

    #[tokio::test]
    async fn peer_that_never_reads_fails_the_connection_at_the_hard_limit() {
        let (near, _far) = tokio::io::duplex(64);
        let mut socket = PatientSocket::new(near);
        let chunk = vec![0; 1 << 20];
        let mut taken = 0;
        while socket.write_all(&chunk).await.is_ok() {
            taken += chunk.len();
            assert!(taken <= HARD_LIMIT, "the limit must hold");
        }
        assert!(taken >= HARD_LIMIT - chunk.len());
    }

    #[tokio::test]
    async fn waiters_for_room_go_on_when_the_backlog_falls_or_the_connection_ends() {
        for end_it in [false, true] {
            let (near, mut far) = tokio::io::duplex(64);
            let mut socket = PatientSocket::new(near);
            let backlog = socket.backlog();
            backlog.room().await;
            socket.write_all(&vec![0; HIGH_WATER + 100]).await.expect("taken");
            let waiter = tokio::spawn(async move { backlog.room().await });
            tokio::task::yield_now().await;
            assert!(!waiter.is_finished());
            if end_it {
                drop(socket);
            } else {
                tokio::spawn(async move {
                    let _ = socket.read_u8().await;
                });
                let mut some = vec![0; 1000];
                far.read_exact(&mut some).await.expect("readable");
            }
            waiter.await.expect("room at last");
        }
    }
}
