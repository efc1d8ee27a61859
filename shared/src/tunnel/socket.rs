//! The TCP socket below SSH: a writer that never waits, and few system calls.
//!
//! russh's session loop awaits the socket's flush and reads nothing meanwhile. Two such loops that both have bulk to
//! send fill both sockets and wait for each other for ever. So this socket takes what the kernel refuses into a backlog,
//! which is written out whenever either direction is polled, and the loop goes on reading.
//!
//! The backlog is bounded twice: pumps wait for [`Backlog::room`] before they send more, and a connection whose backlog
//! passes what its streams can explain all the same (a peer that makes us answer and never reads) fails.
//!
//! russh reads each packet with two reads (its length, its rest) and writes after each one that it read. With many small
//! messages that is three system calls a message. So this socket reads ahead what the kernel has, and while there is
//! something left of that, it gathers small writes. The rule that keeps gathered bytes moving: the loop never sleeps
//! without having asked for input that was not there, and nobody asks the kernel for input before what was gathered has
//! been written.
//!
//! Reading ahead would also let a flood of small messages keep its thread: the runtime counts what it reads from the kernel,
//! and one such read has a thousand messages. So each read from what is ahead counts as well, and the loop gives way to
//! other connections after some sixty messages.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::task::coop::poll_proceed;
use tokio_util::io::poll_read_buf;

/// Streams stop adding data above this. With what the kernel holds it is more than a path of 100 ms at 100 Mbit/s has
/// in flight.
pub const HIGH_WATER: usize = 1 << 20;

/// A connection without streams and with more than this to write is given up: somebody floods it with requests and reads
/// no answers. Four times what honest ones have at the most.
const BARE_LIMIT: usize = 4 << 20;

/// As much more for each stream that there was since the backlog was empty. Each may overshoot [`HIGH_WATER`] by one read
/// of 64 KiB; this is twice that.
const LIMIT_OF_STREAM: usize = 128 * 1024;

/// No connection has more than this to write, whatever its streams: an honest one of 512 stays below.
pub const HARD_LIMIT: usize = 48 << 20;

/// Capacity that an empty backlog may keep.
const KEPT_CAPACITY: usize = 64 * 1024;

/// Read ahead at a time while the connection is quiet: on the stack, so that an idle tunnel holds no buffer. Some 40
/// small messages; a read that fills it shows that the connection is busy.
const QUIET_READ: usize = 4 * 1024;

/// Read ahead at a time while the connection is busy: two full messages.
const BUSY_READ: usize = 64 * 1024;

/// Whoever has room for so much gets it straight from the kernel: a copy saved is worth more than a system call then.
const DIRECT_READ: usize = 16 * 1024;

/// Small writes are gathered up to this size; more is written at once.
const GATHERED: usize = 16 * 1024;

/// What a connection still has to write, as its pumps see it.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: AtomicUsize,
    fell: Notify,
    streams: AtomicUsize,
    /// Most streams since it was empty: what they left behind when they ended is still theirs.
    most_streams: AtomicUsize,
}

/// A stream that sends through the connection, until it is dropped.
#[derive(Debug)]
pub struct Sharing<'a>(&'a Backlog);

impl Drop for Sharing<'_> {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
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

    /// One more stream sends through the connection.
    pub fn share(&self) -> Sharing<'_> {
        let streams = self.streams.fetch_add(1, Relaxed) + 1;
        self.most_streams.fetch_max(streams, Relaxed);
        Sharing(self)
    }

    /// How many bytes may wait.
    fn limit(&self) -> usize {
        (BARE_LIMIT + self.most_streams.load(Relaxed) * LIMIT_OF_STREAM).min(HARD_LIMIT)
    }

    fn set(&self, bytes: usize) {
        if bytes == 0 {
            // One that begins at this moment may be missed until it is empty again, which half of what streams have covers.
            self.most_streams.store(self.streams.load(Relaxed), Relaxed);
        }
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
    /// Read, but not asked for yet.
    ahead: BytesMut,
    /// The last read ahead found as much as it could take.
    busy: bool,
    /// To be written: what the kernel refused, or what is gathered.
    pending: BytesMut,
    backlog: Arc<Backlog>,
}

impl<S> PatientSocket<S> {
    /// Wraps `socket`.
    pub fn new(socket: S) -> Self {
        let (ahead, pending) = (BytesMut::new(), BytesMut::new());
        Self { socket, ahead, busy: false, pending, backlog: Arc::default() }
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

impl<S: AsyncRead + Unpin> PatientSocket<S> {
    /// Reads ahead; [`Self::ahead`] is empty before, and after it only at the end of input.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.busy {
            self.ahead.reserve(BUSY_READ);
            let read = poll_read_buf(Pin::new(&mut self.socket), cx, &mut self.ahead);
            return if read.is_pending() { self.rest() } else { read.map_ok(drop) };
        }
        let mut room = [const { MaybeUninit::uninit() }; QUIET_READ];
        let mut room = ReadBuf::uninit(&mut room);
        let read = Pin::new(&mut self.socket).poll_read(cx, &mut room)?;
        if read.is_pending() {
            return self.rest();
        }
        self.busy = room.remaining() == 0;
        self.ahead.extend_from_slice(room.filled());
        Poll::Ready(Ok(()))
    }

    /// There is no input for now. An idle connection holds no buffers.
    fn rest(&mut self) -> Poll<io::Result<()>> {
        self.busy = false;
        self.ahead = BytesMut::new();
        if self.pending.is_empty() {
            self.pending = BytesMut::new();
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for PatientSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            self.drain(cx)?;
            if buffer.remaining() >= DIRECT_READ {
                // The rest of a long packet.
                return Pin::new(&mut self.socket).poll_read(cx, buffer);
            }
            ready!(self.poll_read_ahead(cx))?;
        }
        let turn = ready!(poll_proceed(cx));
        let taken = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead[..taken]);
        self.ahead.advance(taken);
        turn.made_progress();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let gathering = !self.ahead.is_empty() || !self.pending.is_empty();
        if gathering && self.pending.len() + bytes.len() <= GATHERED {
            self.pending.extend_from_slice(bytes);
            self.backlog.set(self.pending.len());
            if self.ahead.is_empty() {
                self.drain(cx)?;
            }
            return Poll::Ready(Ok(bytes.len()));
        }
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
            if self.pending.len() + rest.len() > self.backlog.limit() {
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
        if !self.ahead.is_empty() && self.pending.len() <= GATHERED {
            return Poll::Ready(Ok(()));
        }
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

    /// Counts the reads and writes that reach it.
    struct Counted<S>(S, Arc<[AtomicUsize; 2]>);

    impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.1[0].fetch_add(1, Relaxed);
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1[1].fetch_add(1, Relaxed);
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn small_messages_share_reads_and_their_answers_share_a_write() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let calls = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let mut socket = PatientSocket::new(Counted(near, Arc::clone(&calls)));
        far.write_all(&[1; 30 * 100]).await.expect("room");
        let mut message = [0; 100];
        for _ in 0..30 {
            socket.read_exact(&mut message[..4]).await.expect("the length");
            socket.read_exact(&mut message[4..]).await.expect("the rest");
            socket.write_all(&message).await.expect("taken");
            socket.flush().await.expect("never waits");
        }
        // The answers waited for each other until the last one found no more input.
        let mut answers = vec![0; 30 * 100];
        far.read_exact(&mut answers).await.expect("all of them");
        assert_eq!(calls.each_ref().map(|calls| calls.load(Relaxed)), [1, 1]);
    }

    #[tokio::test]
    async fn gathered_writes_go_out_before_anybody_waits_for_input() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut socket = PatientSocket::new(near);
        far.write_all(b"half a message").await.expect("room");
        let loop_of_the_session = tokio::spawn(async move {
            assert_eq!(socket.read_u8().await.expect("there"), b'h');
            socket.write_all(b"answer").await.expect("taken");
            socket.flush().await.expect("never waits");
            let mut rest = [0; 100];
            socket.read_exact(&mut rest).await
        });
        let mut answer = [0; 6];
        far.read_exact(&mut answer).await.expect("the answer");
        assert_eq!(&answer, b"answer");
        drop(far);
        loop_of_the_session.await.expect("no panic").expect_err("the end");
    }

    #[tokio::test]
    async fn a_flood_of_small_messages_gives_way_to_others() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut socket = PatientSocket::new(near);
        far.write_all(&vec![1; 1 << 20]).await.expect("room");
        let read = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&read);
        let flooded = tokio::spawn(async move {
            let mut message = [0; 16];
            while socket.read_exact(&mut message).await.is_ok() {
                count.fetch_add(1, Relaxed);
            }
        });
        tokio::task::yield_now().await;
        let first = read.load(Relaxed);
        assert!((1..=256).contains(&first), "{first} messages in one turn");
        drop(far);
        flooded.await.expect("no panic");
        assert_eq!(read.load(Relaxed), (1 << 20) / 16);
    }

    #[tokio::test]
    async fn bytes_of_all_sizes_arrive_in_order() {
        let (near, mut far) = tokio::io::duplex(100_000);
        let mut socket = PatientSocket::new(near);
        let sent: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            far.write_all(&sent).await.expect("taken");
            far
        });
        let (mut received, mut size) = (Vec::new(), 1);
        while received.len() < expected.len() {
            let mut part = vec![0; size.min(expected.len() - received.len())];
            socket.read_exact(&mut part).await.expect("more");
            received.extend_from_slice(&part);
            size = size * 7 % 40_009;
        }
        assert!(received == expected);
        drop(writing.await.expect("no panic"));
        assert!(socket.read_u8().await.is_err(), "the end of input is seen");
    }

    /// How much a connection takes whose peer never reads.
    async fn taken(socket: &mut PatientSocket<tokio::io::DuplexStream>) -> usize {
        let chunk = vec![0; 32 * 1024];
        let mut taken = 0;
        while socket.write_all(&chunk).await.is_ok() {
            taken += chunk.len();
            assert!(taken <= 2 * HARD_LIMIT, "there is a limit");
        }
        taken
    }

    #[tokio::test]
    async fn peer_that_never_reads_fails_the_connection_at_what_its_streams_can_explain() {
        for (streams, limit) in [(0, BARE_LIMIT), (8, BARE_LIMIT + 8 * LIMIT_OF_STREAM), (512, HARD_LIMIT)] {
            let (near, _far) = tokio::io::duplex(64);
            let mut socket = PatientSocket::new(near);
            let backlog = socket.backlog();
            let _sharing: Vec<_> = (0..streams).map(|_| backlog.share()).collect();
            let taken = taken(&mut socket).await;
            assert!(taken <= limit + 64 && taken + 64 * 1024 >= limit, "{streams} streams: {taken}");
        }
    }

    #[tokio::test]
    async fn what_ended_streams_left_behind_is_waited_for() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut socket = PatientSocket::new(near);
        let backlog = socket.backlog();
        let sharing: Vec<_> = (0..100).map(|_| backlog.share()).collect();
        socket.write_all(&vec![0; BARE_LIMIT + 50 * LIMIT_OF_STREAM]).await.expect("theirs");
        drop(sharing);
        socket.write_all(b"the end").await.expect("their goodbyes");
        tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.expect("readable");
        });
        socket.shutdown().await.expect("after the backlog");
        assert_eq!(backlog.limit(), BARE_LIMIT, "once it was empty");
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
