//! One stream: the pump between an SSH channel and a local connection.
//!
//! Between our own ends a stream carries *message credit*, because russh grants a channel's window when data arrives,
//! not when it is consumed, and then waits for the channel's queue: one reader that stops would stop the whole
//! connection. So each data message (at most [`MAX_PACKET`] bytes) costs its sender one credit; the receiver takes
//! everything off russh's queue at once into its own, and grants more credit as it writes to its local end, with
//! SSH_MSG_CHANNEL_EXTENDED_DATA of type [`GRANT`], a big-endian u32 count. A reader that stops costs the memory of its
//! own window and nobody else's time. How much is granted is decided in [`super::credit`].
//!
//! | what happens | what passes on |
//! | --- | --- |
//! | local end of file | EOF; acknowledgements are still read |
//! | EOF received | what is queued is written, then the local write side is shut down |
//! | both directions done | CLOSE |
//! | local error | CLOSE at once, without EOF |
//! | local end of file, then nobody reads any more | CLOSE at once |
//! | CLOSE without EOF, or the connection is gone | what is queued is written, then the local end is reset |
//! | CLOSE after EOF | what is queued is written, then the local end is closed |
//! | the right to the stream ends ([`carry_until`]) | CLOSE at once, and the local end is reset |
//! | a message without credit, or one that is too long | the stream is reset on both sides |
//!
//! Stock SSH clients know no credit ([`Flow::Plain`]): there, a queue that is full waits for its local end, and so does
//! the connection.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use russh::{Channel, ChannelId, ChannelMsg, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, Semaphore};

use super::alarm::Alarm;
use super::credit::{Crowd, Granting, Terms};
use super::pool::{Pool, Reservation};
use super::socket::Backlog;
use super::ssh::MAX_PACKET;

/// Type of the extended data that grants credit: "ack", which is what it was first, in RFC 4250 §4.5's private range of
/// codes.
pub const GRANT: u32 = 0xFE61_636B;

/// Messages that wait for the local end of a stream without credit, whose peer is then made to wait.
const PLAIN_QUEUE: usize = 64;

/// Bytes read from the local end at a time: two messages when it is busy, little while it is quiet, since a stream that
/// waits for input holds a buffer of this size.
const READ_SIZES: (usize, usize) = (4 * 1024, 2 * MAX_PACKET as usize);

/// Messages written with one system call.
const WRITE_BATCH: usize = 16;

/// The local end of a stream: a socket, or whatever stands for one.
pub trait Local: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Ends the connection so that its peer sees a reset, not an orderly end, where that can be told apart (TCP: RST by
    /// SO_LINGER 0). Called once, right before the drop.
    fn reset(&mut self);

    /// Ready once nobody will read what is written, where that shows without a write. Asked after the local end's end of
    /// file only: before that, reading tells.
    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Local for TcpStream {
    fn reset(&mut self) {
        // Failing means that the socket is gone already.
        let _ = self.set_zero_linger();
    }
}

impl Local for UnixStream {
    /// Unix sockets know no reset.
    fn reset(&mut self) {}
}

/// Who bounds what is in flight.
#[derive(Clone, Debug)]
pub enum Flow {
    /// Message credit, between our own ends, on these terms.
    Credit(Terms, Arc<Pool>),
    /// The channel's window alone, with stock clients.
    Plain,
}

/// Bytes that all streams of a tunnel carried, and how many there are: what idleness is judged by.
#[derive(Debug, Default)]
pub struct Meter {
    received: AtomicU64,
    sent: AtomicU64,
    streams: AtomicUsize,
}

impl Meter {
    /// Bytes that came in through channels.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Bytes that went out through channels.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Streams that are being carried now.
    pub fn streams(&self) -> usize {
        self.streams.load(Relaxed)
    }
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

/// Carries bytes between `channel` and `local` until both directions are done, and closes both.
///
/// Run it on a task of its own: dropped half-way it leaves the channel open.
pub async fn carry<S, L>(
    channel: Channel<S>,
    local: L,
    flow: Flow,
    backlog: &Backlog,
    meter: &Meter,
) -> CarryEnd
where
    S: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
    L: Local,
{
    carry_until(pending(), channel, local, flow, backlog, meter).await
}

/// As [`carry`], but for no longer than until `end` completes, also while neither side takes anything from the other.
pub async fn carry_until<S, L>(
    end: impl Future<Output = ()>,
    channel: Channel<S>,
    local: L,
    flow: Flow,
    backlog: &Backlog,
    meter: &Meter,
) -> CarryEnd
where
    S: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
    L: Local,
{
    meter.streams.fetch_add(1, Relaxed);
    let _sharing = backlog.share();
    let (mut from_channel, to_channel) = channel.split();
    let local = Mutex::new(local);
    let granter = Granter::default();
    let (credit, pool) = match &flow {
        Flow::Credit(terms, pool) => (Some(Credit::new(*terms)), Some((*terms, &**pool))),
        Flow::Plain => (None, None),
    };
    let sent = Sent::default();
    let mut inbound = Inbound::new(&local, pool.map(|(terms, pool)| Window::new(terms, pool, &sent)));
    let outbound = Outbound {
        local: &local,
        channel: &to_channel,
        credit: credit.as_ref(),
        pool: pool.map(|(_, pool)| pool),
        backlog,
        meter,
        sent: &sent,
    };
    let orderly = {
        let mut outbound_done = false;
        let mut outbound = pin!(outbound.run());
        let mut granting = pin!(granter.run(&to_channel));
        let mut end = Alarm::new(end);
        loop {
            if inbound.done && outbound_done {
                break true;
            }
            if inbound.done && inbound.closed {
                break inbound.eof;
            }
            tokio::select! { biased;
                () = &mut end => break false,
                message = from_channel.wait(), if inbound.wants_more() => {
                    if inbound.take(message, credit.as_ref(), meter).is_err() {
                        break false;
                    }
                }
                result = &mut outbound, if !outbound_done && !inbound.closed => {
                    if result.is_err() {
                        break false;
                    }
                    outbound_done = true;
                }
                () = &mut granting => {}
                () = poll_fn(|cx| poll_local(&local, |local| local.get_mut().poll_gone(cx))), if outbound_done => {
                    break false;
                }
                result = inbound.write(), if inbound.has_work() => match result {
                    Ok(credit) => granter.add(credit),
                    Err(_) => break false,
                },
            }
        }
    };
    // A connection that is gone takes no CLOSE, and there is nobody left to tell.
    let _ = to_channel.close().await;
    let end = CarryEnd { received: inbound.received, sent: sent.bytes.load(Relaxed), orderly };
    drop(inbound);
    let mut local = local.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !orderly {
        local.reset();
    }
    meter.streams.fetch_sub(1, Relaxed);
    end
}

/// Both directions of a stream run on one task and never at the same time; the lock is what lets them share the local
/// end without `unsafe`.
fn poll_local<L: Local, T>(local: &Mutex<L>, poll: impl FnOnce(Pin<&mut L>) -> T) -> T {
    poll(Pin::new(&mut *local.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// The stream can't go on: the local end failed, the connection is gone, or the peer broke the rules.
struct Broken;

/// What went from the local end to the channel.
#[derive(Default)]
struct Sent {
    bytes: AtomicU64,
    messages: AtomicU64,
}

/// Local end to channel.
struct Outbound<'a, S: From<(ChannelId, ChannelMsg)>, L> {
    local: &'a Mutex<L>,
    channel: &'a ChannelWriteHalf<S>,
    credit: Option<&'a Credit>,
    pool: Option<&'a Pool>,
    backlog: &'a Backlog,
    meter: &'a Meter,
    sent: &'a Sent,
}

impl<S, L> Outbound<'_, S, L>
where
    S: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
    L: Local,
{
    /// Until the local end's end of file. Not cancel-safe: russh reserves window before it sends.
    async fn run(self) -> Result<(), Broken> {
        let mut buffer = BytesMut::new();
        let mut size = READ_SIZES.0;
        loop {
            self.backlog.room().await;
            let wanted = size.div_ceil(MAX_PACKET as usize);
            let credits = match self.credit {
                Some(credit) => credit.take(wanted).await,
                None => wanted,
            };
            let limit = size.min(credits * MAX_PACKET as usize);
            if buffer.capacity() < limit {
                buffer.reserve(limit);
            }
            let read = {
                let mut limited = (&mut buffer).limit(limit);
                poll_fn(|cx| {
                    poll_local(self.local, |local| tokio_util::io::poll_read_buf(local, cx, &mut limited))
                })
                .await
            };
            let read = read.map_err(|_| Broken)?;
            let messages = read.div_ceil(MAX_PACKET as usize);
            if let Some(credit) = self.credit {
                credit.spend(credits, messages);
            }
            if read == 0 {
                return self.channel.eof().await.map_err(|_| Broken);
            }
            self.count(read as u64, messages as u64);
            self.channel.data_bytes(buffer.split().freeze()).await.map_err(|_| Broken)?;
            size = if read == limit {
                (size * 4).min(READ_SIZES.1)
            } else if read < size / 4 {
                READ_SIZES.0
            } else {
                size
            };
        }
    }

    fn count(&self, bytes: u64, messages: u64) {
        self.sent.bytes.fetch_add(bytes, Relaxed);
        self.sent.messages.fetch_add(messages, Relaxed);
        self.meter.sent.fetch_add(bytes, Relaxed);
        if let Some(pool) = self.pool {
            pool.carried(messages);
        }
    }
}

/// Messages that may still be sent.
struct Credit {
    most: usize,
    /// Granted, and not gone into messages.
    held: AtomicUsize,
    /// Of these, what nobody has taken to send with.
    free: Semaphore,
}

impl Credit {
    fn new(terms: Terms) -> Self {
        let initial = terms.initial as usize;
        Self { most: terms.most as usize, held: AtomicUsize::new(initial), free: Semaphore::new(initial) }
    }

    /// At least one credit, up to `wanted` where they are there at once.
    async fn take(&self, wanted: usize) -> usize {
        self.free.acquire().await.expect("the semaphore is never closed").forget();
        let mut taken = 1;
        while taken < wanted {
            match self.free.try_acquire() {
                Ok(permit) => permit.forget(),
                Err(_) => break,
            }
            taken += 1;
        }
        taken
    }

    /// `used` of the credits `taken` went into messages; the rest is free again.
    fn spend(&self, taken: usize, used: usize) {
        self.held.fetch_sub(used, Relaxed);
        self.free.add_permits(taken - used);
    }

    /// The peer lets us send `count` more. It can't talk us into more than the terms allow.
    fn granted(&self, count: usize) {
        let granted = count.min(self.most.saturating_sub(self.held.load(Relaxed)));
        self.held.fetch_add(granted, Relaxed);
        self.free.add_permits(granted);
    }
}

/// Sends grants, on a future of its own: the outbound direction may hold the next place in russh's queue, and waiting
/// for one behind it would stop the inbound direction for good.
#[derive(Default)]
struct Granter {
    granted: AtomicU32,
    due: Notify,
}

impl Granter {
    fn add(&self, credit: u32) {
        if credit > 0 {
            self.granted.fetch_add(credit, Relaxed);
            self.due.notify_one();
        }
    }

    /// Runs until it is dropped.
    async fn run<S>(&self, channel: &ChannelWriteHalf<S>)
    where
        S: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
    {
        loop {
            self.due.notified().await;
            let granted = self.granted.swap(0, Relaxed);
            if granted > 0
                && channel.extended_data_bytes(GRANT, granted.to_be_bytes().to_vec()).await.is_err()
            {
                // The connection is gone; the inbound direction notices.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// What the peer may send, and who pays for it.
struct Window<'a> {
    granting: Granting,
    crowd: Crowd,
    reservation: Reservation<'a>,
    terms: Terms,
    pool: &'a Pool,
    sent: &'a Sent,
    received: u64,
}

impl<'a> Window<'a> {
    fn new(terms: Terms, pool: &'a Pool, sent: &'a Sent) -> Self {
        Self {
            granting: Granting::new(terms),
            crowd: Crowd::default(),
            reservation: Reservation::new(pool),
            terms,
            pool,
            sent,
            received: 0,
        }
    }

    fn received(&mut self, bytes: usize) -> Result<(), Broken> {
        if bytes > MAX_PACKET as usize {
            return Err(Broken);
        }
        let measured = self.granting.received(Instant::now).map_err(|_| Broken)?;
        if let Some(round_trip) = measured {
            self.pool.observe(round_trip);
        }
        self.pool.carried(1);
        self.received += 1;
        Ok(())
    }

    /// `count` messages were written out. What to grant for that.
    fn written(&mut self, count: u32) -> u32 {
        self.granting.written(count);
        if !self.granting.is_due() {
            return 0;
        }
        let now = Instant::now();
        let of_stream = self.received + self.sent.messages.load(Relaxed);
        let crowded = self.crowd.look(self.pool.messages(), of_stream, now);
        let wanted = self.granting.wanted(self.pool.round_trip(), crowded);
        // Only the adaptive part is paid for: each stream has its first messages to itself.
        let beyond = wanted.max(self.granting.outstanding()).saturating_sub(self.terms.initial);
        let affordable = self.terms.initial + self.reservation.resize(beyond);
        self.granting.grant(wanted.min(affordable), now)
    }
}

/// Channel to local end.
struct Inbound<'a, L> {
    local: &'a Mutex<L>,
    /// Of a stream with credit.
    window: Option<Window<'a>>,
    queue: VecDeque<Bytes>,
    /// EOF was received.
    eof: bool,
    /// CLOSE was received, or the connection is gone.
    closed: bool,
    /// Something was written that the local end may still hold back.
    unflushed: bool,
    /// All that will ever come is written, and the write side is shut down where EOF said so.
    done: bool,
    received: u64,
}

impl<'a, L: Local> Inbound<'a, L> {
    fn new(local: &'a Mutex<L>, window: Option<Window<'a>>) -> Self {
        Self {
            local,
            window,
            queue: VecDeque::new(),
            eof: false,
            closed: false,
            unflushed: false,
            done: false,
            received: 0,
        }
    }

    /// Whether to take the next message off russh's queue.
    fn wants_more(&self) -> bool {
        !self.closed && (self.window.is_some() || self.queue.len() < PLAIN_QUEUE)
    }

    fn has_work(&self) -> bool {
        !self.done && (!self.queue.is_empty() || self.unflushed || self.eof || self.closed)
    }

    fn take(
        &mut self,
        message: Option<ChannelMsg>,
        credit: Option<&Credit>,
        meter: &Meter,
    ) -> Result<(), Broken> {
        match message {
            Some(ChannelMsg::Data { data }) => {
                if self.eof {
                    return Err(Broken);
                }
                if let Some(window) = &mut self.window {
                    window.received(data.len())?;
                }
                self.received += data.len() as u64;
                meter.received.fetch_add(data.len() as u64, Relaxed);
                self.queue.push_back(data);
            }
            Some(ChannelMsg::ExtendedData { ext: GRANT, data }) => {
                if let Some(credit) = credit {
                    let count = data.as_ref().try_into().map(u32::from_be_bytes).map_err(|_| Broken)?;
                    credit.granted(count as usize);
                }
            }
            Some(ChannelMsg::Eof) => self.eof = true,
            Some(ChannelMsg::Close) | None => self.closed = true,
            // Other extended data, window adjustments, requests: nothing that a stream needs.
            Some(_) => {}
        }
        Ok(())
    }

    /// Writes a batch of what is queued; when that was all, flushes, and ends the write side where it is due. Answers with
    /// the credit that is due for it, as soon as anything was done. Cancel-safe: nothing is kept outside of `self`.
    async fn write(&mut self) -> io::Result<u32> {
        let mut messages = 0;
        poll_fn(|cx| match self.poll_write(cx, &mut messages) {
            Poll::Pending if messages == 0 => Poll::Pending,
            Poll::Pending => Poll::Ready(Ok(())),
            Poll::Ready(result) => Poll::Ready(result),
        })
        .await?;
        Ok(self.window.as_mut().map_or(0, |window| window.written(messages)))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, messages: &mut u32) -> Poll<io::Result<()>> {
        if !self.queue.is_empty() {
            let written = ready!(poll_local(self.local, |local| write_batch(local, cx, &self.queue)))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            *messages += self.consume(written);
            if !self.queue.is_empty() {
                // What is written already can be paid for while the rest goes out.
                return Poll::Ready(Ok(()));
            }
        }
        if self.unflushed {
            ready!(poll_local(self.local, |local| local.poll_flush(cx)))?;
            self.unflushed = false;
        }
        if self.eof {
            ready!(poll_local(self.local, |local| local.poll_shutdown(cx)))?;
            self.done = true;
        } else if self.closed {
            self.done = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Drops `written` bytes from the front; how many messages that finished.
    fn consume(&mut self, mut written: usize) -> u32 {
        let mut finished = 0;
        while let Some(front) = self.queue.front_mut() {
            if written < front.len() {
                front.advance(written);
                break;
            }
            written -= front.len();
            self.queue.pop_front();
            finished += 1;
        }
        if self.queue.is_empty() && self.queue.capacity() > WRITE_BATCH {
            // A stream that is quiet again needs no large queue.
            self.queue = VecDeque::new();
        }
        finished
    }
}

fn write_batch<L: Local>(
    local: Pin<&mut L>,
    cx: &mut Context<'_>,
    queue: &VecDeque<Bytes>,
) -> Poll<io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); WRITE_BATCH];
    let mut count = 0;
    for (slice, message) in slices.iter_mut().zip(queue) {
        *slice = IoSlice::new(message);
        count += 1;
    }
    if count == 1 || !local.is_write_vectored() {
        return local.poll_write(cx, &slices[0]);
    }
    local.poll_write_vectored(cx, &slices[..count])
}

#[cfg(test)]
mod tests;
