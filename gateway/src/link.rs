//! One live tunnel as the rest of the gateway sees it, and the streams inside.
//!
//! A [`Link`] opens streams to services and tells the agent things; it ends with its SSH connection, and whoever holds
//! one that has ended gets errors, nothing worse. A [`Stream`] holds its tunnel open until it is dropped or carried to
//! its end, or until the right to it ends ([`Stream::until`]): then it is cut, as if the other side had reset it.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::Channel;
use russh::server::{Handle, Msg};
use shared::id::ServiceName;
use shared::tunnel::carry::{self, CarryEnd, Flow, Local, Meter};
use shared::tunnel::control::ToAgent;
use shared::tunnel::dial_failure::DialFailure;
use shared::tunnel::pipe::{UserEnd, pipe};
use shared::tunnel::socket::Backlog;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::budget::StreamRoom;
use crate::domain::tunnel::LinkId;

/// How long an agent may take to connect a stream: its own limit for a dial is 10 s, the rest is for the path.
const OPEN_TIME: Duration = Duration::from_secs(15);

/// Ends a connection from outside, with a reason.
#[derive(Clone, Debug, Default)]
pub struct Closer {
    token: CancellationToken,
    reason: Arc<OnceLock<&'static str>>,
}

impl Closer {
    /// Asks the connection to end; the first reason counts.
    pub fn close(&self, reason: &'static str) {
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    /// Waits for [`Closer::close`]; its reason.
    pub async fn closed(&self) -> &'static str {
        self.token.cancelled().await;
        self.reason.get().copied().unwrap_or("closed")
    }

    /// Why it was asked to end, if it was.
    pub fn reason(&self) -> Option<&'static str> {
        self.reason.get().copied()
    }
}

/// What a link is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Its id.
    pub id: LinkId,
    /// russh's end of the connection.
    pub handle: Handle,
    /// What the connection has still to write.
    pub backlog: Arc<Backlog>,
    /// What its streams carried.
    pub meter: Arc<Meter>,
    /// Services with the port that the agent asked to forward, which it wants to hear again.
    pub services: HashMap<ServiceName, u32>,
    /// How its streams are carried.
    pub flow: Flow,
    /// Messages to an agent of ours; `None` for a stock client.
    pub control: Option<mpsc::Sender<ToAgent>>,
    /// Bounds the streams.
    pub permits: Arc<Semaphore>,
    /// Cancelled when the connection is over and the registry was told.
    pub gone: CancellationToken,
    /// Cancelled when the registry has ended the link, which may be before its connection is over.
    pub retired: CancellationToken,
}

/// A live tunnel. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Link(Arc<Parts>);

/// Why a link opened no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFailure {
    /// The agent could not connect to the service.
    Dial(DialFailure),
    /// The connection ended, or is ending.
    Lost,
    /// The link has as many streams as it may have.
    TooMany,
}

impl Link {
    /// A link of these parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Its id.
    pub fn id(&self) -> LinkId {
        self.0.id
    }

    /// Bytes that its streams carried so far: from the edge, and to it.
    pub fn carried(&self) -> (u64, u64) {
        (self.0.meter.received(), self.0.meter.sent())
    }

    /// Waits until the link has ended and the registry knows.
    pub async fn gone(&self) {
        tokio::select! {
            () = self.0.gone.cancelled() => {}
            () = self.0.retired.cancelled() => {}
        }
    }

    /// The registry has ended the link: whoever waits for a stream on it need not wait for the connection's goodbye.
    pub fn retire(&self) {
        self.0.retired.cancel();
    }

    /// Tells the agent; `false` where there is none of ours that listens.
    pub fn tell(&self, message: ToAgent) -> bool {
        self.0.control.as_ref().is_some_and(|control| control.try_send(message).is_ok())
    }

    /// Opens a stream to the service. Dropping the future closes what may still be opened.
    pub async fn open(&self, service: &ServiceName, hold: Hold) -> Result<Stream, OpenFailure> {
        let port = *self.0.services.get(service).ok_or(OpenFailure::Dial(DialFailure::NoSuchService))?;
        let permit = Arc::clone(&self.0.permits).try_acquire_owned().map_err(|_| OpenFailure::TooMany)?;
        let (answer, answered) = oneshot::channel();
        let (handle, name) = (self.0.handle.clone(), service.as_str().to_owned());
        // On a task of its own: russh ends the whole connection when the answer to a channel finds nobody.
        tokio::spawn(async move {
            let opened = handle.channel_open_forwarded_tcpip(name, port, "127.0.0.1", 0).await;
            if let Err(Ok(unwanted)) = answer.send(opened) {
                let _ = unwanted.close().await;
            }
        });
        let opened = tokio::select! {
            opened = timeout(OPEN_TIME, answered) => opened,
            () = self.0.retired.cancelled() => return Err(OpenFailure::Lost),
        };
        match opened {
            Ok(Ok(Ok(channel))) => {
                let held = Held { link: self.clone(), _permit: permit, _hold: hold, _room: None };
                Ok(Stream { channel: Some(channel), held: Some(held), ends: Vec::new() })
            }
            Ok(Ok(Err(russh::Error::ChannelOpenFailure(failure)))) => {
                match DialFailure::from_open_failure(&failure) {
                    DialFailure::Closing => Err(OpenFailure::Lost),
                    failure => Err(OpenFailure::Dial(failure)),
                }
            }
            Ok(Ok(Err(_)) | Err(_)) => Err(OpenFailure::Lost),
            Err(_) => Err(OpenFailure::Dial(DialFailure::Timeout)),
        }
    }
}

/// Keeps a tunnel from being idle; gives back what the registry granted when it is dropped.
#[derive(Debug)]
pub struct Hold {
    link: LinkId,
    ended: mpsc::UnboundedSender<LinkId>,
    live: Arc<AtomicUsize>,
}

impl Hold {
    /// For a grant on `link`: `ended` hears of its end, `live` counts it.
    pub fn new(link: LinkId, ended: mpsc::UnboundedSender<LinkId>, live: Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Relaxed);
        Self { link, ended, live }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Relaxed);
        // Without a registry there is nothing to give back.
        let _ = self.ended.send(self.link);
    }
}

#[derive(Debug)]
struct Held {
    link: Link,
    _permit: OwnedSemaphorePermit,
    _hold: Hold,
    _room: Option<StreamRoom>,
}

/// One open stream to a service.
pub struct Stream {
    channel: Option<Channel<Msg>>,
    held: Option<Held>,
    ends: Vec<End>,
}

/// Something that ends a stream before its time.
type End = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Stream {
    /// Keeps this room until its end.
    pub fn with_room(mut self, room: Option<StreamRoom>) -> Self {
        if let Some(held) = &mut self.held {
            held._room = room;
        }
        self
    }

    /// The same, for no longer than until `end` completes, nor than anything else that was given here.
    #[must_use]
    pub fn until(mut self, end: impl Future<Output = ()> + Send + 'static) -> Self {
        self.ends.push(Box::pin(end));
        self
    }

    /// Carries bytes between the service and `local` until both directions are done. Goes on by itself when the future
    /// is dropped.
    pub async fn carry<L: Local>(mut self, local: L) -> CarryEnd {
        let channel = self.channel.take().expect("only carry and drop take the channel, and each once");
        let held = self.held.take();
        let end = first_of(std::mem::take(&mut self.ends));
        let carrying = tokio::spawn(async move {
            let Some(held) = held else { return CarryEnd::default() };
            let parts = &held.link.0;
            carry::carry_until(end, channel, local, parts.flow.clone(), &parts.backlog, &parts.meter).await
        });
        carrying.await.unwrap_or_default()
    }

    /// The stream as something to read from and write to: for an HTTP client. A reset of the service shows as
    /// `ConnectionReset`.
    pub fn into_io(self) -> UserEnd {
        self.into_io_then(|_| ())
    }

    /// As [`Stream::into_io`]; `done` hears what was carried.
    pub fn into_io_then(self, done: impl FnOnce(CarryEnd) + Send + 'static) -> UserEnd {
        let (carried, user) = pipe();
        tokio::spawn(async move { done(self.carry(carried).await) });
        user
    }
}

/// Completes with the first of them; never, where there is none.
async fn first_of(ends: Vec<End>) {
    if ends.is_empty() {
        return std::future::pending().await;
    }
    futures_util::future::select_all(ends).await;
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Drop for Stream {
    /// A stream that nobody carries is closed.
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                let _ = channel.close().await;
            });
        }
    }
}
