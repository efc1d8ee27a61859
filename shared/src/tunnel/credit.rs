//! How much the peer may send on a stream: decided here, without a clock or a socket.
//!
//! The receiver of a direction decides. It hands out *credit*, one for each data message, so that what the peer still
//! holds and what waits here for the local end come to the stream's *window* together. A larger window is bought from the
//! tunnel's budget ([`super::pool`]) and follows what the path needs:
//!
//! | what is seen | window |
//! | --- | --- |
//! | the stream has its tunnel to itself | at least [`LONE`], which no round trip on a local network can empty |
//! | other streams carry messages too | down to [`SHARED`], since all of it lies in front of their messages |
//! | the path has delay | several times what arrives during its shortest round trip, at most [`Terms::most`] |
//! | the local end takes nothing | what it is, and no more credit until something is written out |
//!
//! How the delay is measured: the first message that a grant pays for can't arrive sooner than a round trip after the
//! grant. Where it arrives just then, the window was all that held the peer back, and a multiple of what arrived is more
//! than what there is; where it arrives much later, a queue or the peer's own pace was, and the window shrinks by itself.
//!
//! Rules: the peer can never send what it holds no credit for, whatever it claims. The window falls by a quarter at a
//! time, so that one hiccup costs little. When all that came is written out, the peer holds at least three quarters of
//! the window, so that no stream waits for ever.

use std::time::{Duration, Instant};

/// Window of a stream that is alone: 2 MiB. More makes a single stream no faster without delay, less does (16: by a
/// fifth).
pub const LONE: u32 = 64;

/// Window of a stream among others: 512 KiB, about a millisecond of what a tunnel carries.
pub const SHARED: u32 = 16;

/// Largest window: 16 MiB, which is 160 MiB/s at a round trip of 100 ms.
pub const MOST: u32 = 512;

/// Round trips that a window lasts for, in company: one, and as much again to find out whether there is more to get.
const ROUND_TRIPS_SHARED: f64 = 2.0;

/// The same for a stream that is alone, where nobody waits behind it. A packet that is lost holds up what comes after it
/// for a round trip or two, and with 1 % of loss there is always one: two round trips left such a path half empty.
const ROUND_TRIPS_LONE: f64 = 5.0;

/// How long a stream remembers that others carried messages. Longer than between the requests of somebody who works.
const CROWD_MEMORY: Duration = Duration::from_secs(1);

/// What both ends agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Credit that each side holds when a stream begins.
    pub initial: u32,
    /// Most credit that a side may ever hold. What is granted beyond is lost.
    pub most: u32,
}

impl Terms {
    /// Version 1 of the control channel: a window that never changes.
    pub const FIXED: Self = Self { initial: LONE, most: LONE };
    /// From version 2 on.
    pub const ADAPTIVE: Self = Self { initial: SHARED, most: MOST };
}

/// The peer sent a message without credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

/// The receiving side of one direction of a stream.
#[derive(Debug)]
pub struct Granting {
    terms: Terms,
    /// Credit that the peer holds, or that is on its way to it.
    held: u32,
    /// Messages that came and are not written out yet.
    queued: u32,
    /// What the two may come to.
    window: u32,
    probe: Option<Probe>,
    measured: Option<Measured>,
}

/// A grant whose first message is awaited.
#[derive(Debug)]
struct Probe {
    granted: Instant,
    /// Messages to come, the awaited one included.
    left: u32,
    /// As it was at first.
    messages: u32,
}

/// What the last probe showed.
#[derive(Clone, Copy, Debug)]
struct Measured {
    messages: u32,
    took: Duration,
}

impl Granting {
    /// At the beginning of a stream.
    pub fn new(terms: Terms) -> Self {
        Self { terms, held: terms.initial, queued: 0, window: terms.initial, probe: None, measured: None }
    }

    /// A message came. Answers with a round trip, if one was measured: no shorter than the path's own.
    ///
    /// # Errors
    /// [`Overrun`]; then the stream is over.
    pub fn received(&mut self, now: impl FnOnce() -> Instant) -> Result<Option<Duration>, Overrun> {
        self.held = self.held.checked_sub(1).ok_or(Overrun)?;
        self.queued += 1;
        let Some(probe) = &mut self.probe else { return Ok(None) };
        probe.left -= 1;
        if probe.left > 0 {
            return Ok(None);
        }
        let took = now().saturating_duration_since(probe.granted);
        self.measured = Some(Measured { messages: probe.messages, took });
        self.probe = None;
        Ok(Some(took))
    }

    /// Messages were written out. `count` is at most what [`Granting::received`] took and was not written out yet.
    pub fn written(&mut self, count: u32) {
        self.queued -= count;
    }

    /// Whether the peer holds so little that a grant is due.
    pub fn is_due(&self) -> bool {
        self.outstanding() + (self.window / 4).max(1) <= self.window
    }

    /// The window that would be right, for a path of this round trip.
    pub fn wanted(&self, round_trip: Option<Duration>, crowded: bool) -> u32 {
        let (least, lasting) = if crowded { (SHARED, ROUND_TRIPS_SHARED) } else { (LONE, ROUND_TRIPS_LONE) };
        let needed = self.measured.zip(round_trip).map_or(0, |(measured, round_trip)| {
            let arrived = f64::from(measured.messages);
            let round_trips = measured.took.as_secs_f64() / round_trip.as_secs_f64();
            // Beyond what a u32 holds the conversion saturates; not a number is 0.
            (lasting * arrived / round_trips) as u32
        });
        let gently = self.window - self.window / 4;
        needed.max(least).max(gently).clamp(self.terms.initial, self.terms.most)
    }

    /// What must be paid for at least: the peer may send it all, or has.
    pub fn outstanding(&self) -> u32 {
        self.held + self.queued
    }

    /// Grants what a window of this size leaves, which may be nothing.
    pub fn grant(&mut self, window: u32, now: Instant) -> u32 {
        self.window = window.clamp(self.terms.initial, self.terms.most);
        let granted = self.window.saturating_sub(self.outstanding());
        if granted > 0 && self.probe.is_none() {
            let messages = self.held + 1;
            self.probe = Some(Probe { granted: now, left: messages, messages });
        }
        self.held += granted;
        granted
    }
}

/// The shortest round trip that a tunnel ever showed. It only falls: one that could rise again would follow the queues
/// that larger windows make. A path that becomes longer later costs speed, and nothing else.
#[derive(Debug, Default)]
pub struct Delay {
    shortest: Option<Duration>,
}

impl Delay {
    /// One more was measured.
    pub fn observe(&mut self, round_trip: Duration) {
        self.shortest = Some(self.shortest.map_or(round_trip, |shortest| shortest.min(round_trip)));
    }

    /// The shortest.
    pub fn shortest(&self) -> Option<Duration> {
        self.shortest
    }
}

/// Whether a stream has company.
#[derive(Debug, Default)]
pub struct Crowd {
    of_tunnel: u64,
    of_stream: u64,
    seen: Option<Instant>,
}

impl Crowd {
    /// Looks at what the tunnel and this stream in it have carried so far, in messages of both directions.
    pub fn look(&mut self, of_tunnel: u64, of_stream: u64, now: Instant) -> bool {
        let others = of_tunnel.wrapping_sub(self.of_tunnel) != of_stream.wrapping_sub(self.of_stream);
        (self.of_tunnel, self.of_stream) = (of_tunnel, of_stream);
        if others {
            self.seen = Some(now);
        }
        self.seen.is_some_and(|seen| now.saturating_duration_since(seen) < CROWD_MEMORY)
    }
}

#[cfg(test)]
mod tests;
