//! What the gateway may do in a tunnel, and the streams that come of it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use russh::client::{ChannelOpenHandle, DisconnectReason, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, client};
use shared::fingerprint::HostKeyFingerprint;
use shared::tunnel::carry::{Flow, Meter, carry};
use shared::tunnel::credit::Terms;
use shared::tunnel::dial_failure::DialFailure;
use shared::tunnel::pool::{Pool, WindowBudget};
use shared::tunnel::socket::Backlog;
use shared::tunnel::ssh::{CONTROL_NAME, MAX_STREAMS, terms};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{ControlChannel, Events, tell};
use crate::lifecycle::{Attempt, TunnelEvent};
use crate::services::{DIAL_TIMEOUT, Service};

/// Memory that streams may hold together beyond what each has to itself. An agent has one tunnel, and often little
/// memory: 64 MiB are four streams of 160 MiB/s at a round trip of 100 ms.
const WINDOW_BUDGET: u64 = 64 << 20;

/// Streams of one tunnel.
#[derive(Debug)]
pub struct Streams {
    attempt: Attempt,
    services: Arc<[Service]>,
    backlog: Arc<Backlog>,
    meter: Meter,
    pool: Arc<Pool>,
    /// What the control channel was opened with.
    terms: OnceLock<Terms>,
    events: Events,
    /// One for each stream, from its request to its end.
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl Streams {
    /// None yet.
    pub fn new(attempt: Attempt, services: Arc<[Service]>, backlog: Arc<Backlog>, events: Events) -> Self {
        Self {
            attempt,
            services,
            backlog,
            meter: Meter::default(),
            pool: Arc::new(Pool::new(WindowBudget::new(WINDOW_BUDGET))),
            terms: OnceLock::new(),
            events,
            places: Arc::new(Semaphore::new(MAX_STREAMS)),
            tasks: TaskTracker::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Takes no stream any more.
    pub fn close(&self) {
        self.places.close();
        self.tasks.close();
    }

    /// Waits for the streams to end, and cuts those that have not within `grace`. Only for a connection that is gone: a
    /// stream that is cut leaves its channel as it is.
    pub async fn drain(&self, grace: Duration) {
        if timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::debug!(streams = self.tasks.len(), "streams are cut: their services take no data");
            self.cut.cancel();
            self.tasks.wait().await;
        }
    }

    /// Answers the gateway's request for a stream; the dialling is done by a task of its own.
    async fn start(self: &Arc<Self>, name: &str, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        // A stream before the control channel: the gateway is none of ours, or a very confused one.
        let Some(terms) = self.terms.get().copied() else {
            return reply.reject(DialFailure::NoSuchService.to_open_failure()).await;
        };
        let Some(service) = self.services.iter().find(|service| service.name.as_str() == name).cloned()
        else {
            return reply.reject(DialFailure::NoSuchService.to_open_failure()).await;
        };
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(tokio::sync::TryAcquireError::Closed) => {
                return reply.reject(DialFailure::Closing.to_open_failure()).await;
            }
            Err(tokio::sync::TryAcquireError::NoPermits) => {
                tracing::warn!(%service.name, limit = MAX_STREAMS, "a stream is refused: the tunnel is full");
                return reply.reject(DialFailure::TooManyStreams.to_open_failure()).await;
            }
        };
        let streams = Arc::clone(self);
        self.tasks.spawn(async move {
            tell(&streams.events, streams.attempt, TunnelEvent::StreamStarted).await;
            tokio::select! {
                () = streams.serve(&service, terms, channel, reply) => {}
                () = streams.cut.cancelled() => {}
            }
            tell(&streams.events, streams.attempt, TunnelEvent::StreamEnded).await;
            drop(place);
        });
    }

    async fn serve(&self, service: &Service, terms: Terms, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        let connection = match service.target.connect(DIAL_TIMEOUT).await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(service = %service.name, %error, "a service can't be reached");
                return reply.reject(error.failure().to_open_failure()).await;
            }
        };
        reply.accept().await;
        let flow = Flow::Credit(terms, Arc::clone(&self.pool));
        let end = carry(channel, connection, flow, &self.backlog, &self.meter).await;
        tracing::debug!(
            service = %service.name, received = end.received, sent = end.sent, orderly = end.orderly, "a stream ended"
        );
    }
}

/// russh's view of the tunnel.
pub struct Handler {
    host_keys: Vec<HostKeyFingerprint>,
    /// The host key that was shown, if it was refused.
    refused: Arc<Mutex<Option<HostKeyFingerprint>>>,
    streams: Arc<Streams>,
    /// Taken by the first control channel; there is no second one.
    control: Option<oneshot::Sender<ControlChannel>>,
    end: Arc<Mutex<Option<End>>>,
}

/// Why a connection ended.
#[derive(Clone, Debug)]
pub enum End {
    /// The gateway said goodbye, and why.
    Dismissed(String),
    /// It broke, or was closed at this end.
    Broken(String),
}

impl Handler {
    /// For one connection.
    pub fn new(
        host_keys: Vec<HostKeyFingerprint>,
        refused: Arc<Mutex<Option<HostKeyFingerprint>>>,
        streams: Arc<Streams>,
        control: oneshot::Sender<ControlChannel>,
        end: Arc<Mutex<Option<End>>>,
    ) -> Self {
        Self { host_keys, refused, streams, control: Some(control), end }
    }
}

impl client::Handler for Handler {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let key = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => key,
            // We ask for none.
            PublicKeyOrCertificate::Certificate(_) => return Ok(false),
        };
        let fingerprint = HostKeyFingerprint::of(key);
        if self.host_keys.contains(&fingerprint) {
            return Ok(true);
        }
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(fingerprint);
        Ok(false)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        connected_address: &str,
        connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        if connected_address != CONTROL_NAME {
            self.streams.start(connected_address, channel, reply).await;
            return Ok(());
        }
        let agreed = terms(connected_port).and_then(|terms| Some((terms, self.control.take()?)));
        match agreed {
            Some((terms, control)) => {
                // There is one control channel, so it is not set yet.
                let _ = self.streams.terms.set(terms);
                reply.accept().await;
                // Nobody waits for it any more when the opening was given up.
                let _ = control.send(channel);
            }
            None => reply.reject(DialFailure::NoSuchService.to_open_failure()).await,
        }
        Ok(())
    }

    // russh accepts what follows unless told otherwise; a reply that is dropped refuses.

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host: &str,
        _port: u32,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        let end = match reason {
            // russh gives an empty one where this end disconnected.
            DisconnectReason::ReceivedDisconnect(info) if info.message.is_empty() => {
                End::Broken("disconnected".to_owned())
            }
            DisconnectReason::ReceivedDisconnect(info) => End::Dismissed(info.message),
            DisconnectReason::Error(error) => End::Broken(error.to_string()),
        };
        self.end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
        Ok(())
    }
}
