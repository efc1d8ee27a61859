//! What is counted where: one handle, with a method for each thing that those who do the work have to say.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::counts::{Counts, Label as _, label};
use super::histogram::Histogram;
use crate::admission::Failure;
use crate::domain::event::{Cause, What};
use crate::domain::refusal::{CheckInRefusal, OpenError};

/// A check-in is answered in well under a millisecond; what takes longer waits for the registry or for a binding.
const CHECK_IN_BOUNDS: &[u64] =
    &[50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_500_000];
/// One flush is a few milliseconds on a solid-state disk and some tens on a turning one.
const STORE_BOUNDS: &[u64] =
    &[500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000];
/// At once where the tunnel is open, else an interval of check-ins and a login.
const WAIT_BOUNDS: &[u64] = &[
    1_000, 100_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 7_500_000, 10_000_000, 20_000_000, 60_000_000,
];

label! {
    /// How a check-in was answered.
    CheckInLabel is "answer" {
        /// Nothing changed since the last answer: 204.
        Unchanged = "unchanged",
        /// Not needed, or not yet: 200.
        NotNeeded = "not-needed",
        /// With an offer: 200.
        Needed = "needed",
        /// The request can't be understood, or shows no key.
        Malformed = "malformed",
        /// As its problem code says.
        UnknownKey = "unknown-key",
        /// As its problem code says.
        BoundToAnother = "bound-to-another",
        /// As its problem code says.
        SecondInstance = "second-instance",
        /// As its problem code says.
        Protocol = "unsupported-protocol",
        /// As its problem code says.
        Busy = "busy",
        /// As its problem code says.
        Store = "store-failed",
    }
}

label! {
    /// What happened to an edge.
    EventLabel is "event" {
        /// Enrolled.
        Created = "created",
        /// Its record changed.
        Changed = "changed",
        /// Gone.
        Deleted = "deleted",
        /// Bound.
        Joined = "joined",
        /// Freed.
        Dissociated = "dissociated",
        /// An agent is there.
        Online = "online",
        /// None is any more.
        Offline = "offline",
        /// A second instance was refused.
        Duplicate = "duplicate",
        /// The flag is up.
        TunnelWanted = "tunnel-wanted",
        /// Credentials were handed out.
        TunnelOffered = "tunnel-offered",
        /// Open.
        TunnelOpened = "tunnel-opened",
        /// No longer open.
        TunnelClosed = "tunnel-closed",
        /// The flag went down before it was open.
        TunnelUnwanted = "tunnel-unwanted",
        /// A snapshot was stored.
        SnapshotReceived = "snapshot-received",
    }
}

label! {
    /// By whose doing a tunnel ended.
    CauseLabel is "cause" {
        /// Nobody used it.
        Idle = "idle",
        /// An operator's.
        Operator = "operator",
        /// Edge or credentials were taken back.
        Revoked = "revoked",
        /// The gateway shut down.
        Shutdown = "shutdown",
        /// The connection broke.
        Lost = "lost",
    }
}

label! {
    /// What came of somebody's wish for a stream.
    StreamLabel is "outcome" {
        /// It was opened.
        Opened = "opened",
        /// As its problem code says.
        NoSuchEdge = "edge-not-found",
        /// As its problem code says.
        NoSuchService = "service-not-found",
        /// As its problem code says.
        NoTunnel = "no-tunnel",
        /// As its problem code says.
        Dial = "service-unreachable",
        /// As its problem code says.
        Lost = "tunnel-lost",
        /// As its problem code says.
        Refused = "stream-refused",
    }
}

label! {
    /// Who logged in over SSH, or what was shown in vain.
    LoginLabel is "login" {
        /// An operator with an API token.
        OperatorPassword = "operator-password",
        /// An operator with a key.
        OperatorKey = "operator-key",
        /// An agent with its offer, or a stock client in its place.
        EdgePassword = "edge-password",
        /// A stock client with a key.
        EdgeKey = "edge-key",
        /// A password that is nobody's.
        RefusedPassword = "refused-password",
        /// A key that is nobody's, or comes at the wrong time.
        RefusedKey = "refused-key",
    }
}

label! {
    /// A port, and who is before their login there.
    PortLabel is "port" {
        /// 9000.
        Http = "http",
        /// 8000.
        Ssh = "ssh",
    }
}

label! {
    /// What became of a connection at a port.
    AdmissionLabel is "verdict" {
        /// It got in.
        Admitted = "admitted",
        /// It got in, from a source that is penalised.
        Probation = "probation",
        /// Its source is penalised, and has its few places taken.
        Penalised = "penalised",
        /// Its source has too many before their login.
        SourceCrowded = "source-crowded",
        /// All together are too many before their login.
        Crowded = "crowded",
        /// It had got in, and gave its place to a newcomer.
        Displaced = "displaced",
    }
}

label! {
    /// What strangers did wrong.
    FailureLabel is "failure" {
        /// They showed a credential that is nobody's.
        Credential = "credential",
        /// They showed none.
        Nothing = "nothing",
        /// They took too long.
        Grace = "grace",
        /// Something here broke over it.
        Crash = "crash",
    }
}

label! {
    /// New work that was refused, since there was no room for it.
    WorkLabel is "work" {
        /// A connection to port 9000.
        Http = "http-connection",
        /// A connection to port 8000.
        Ssh = "ssh-connection",
        /// An agent's tunnel or an operator's SSH connection, at its login.
        Tunnel = "tunnel",
        /// A stream.
        Stream = "stream",
        /// A stream of an operator who has too many.
        StreamOfOperator = "stream-of-operator",
        /// A request.
        Request = "request",
        /// A request of an operator who has too many.
        RequestOfOperator = "request-of-operator",
    }
}

label! {
    /// What a connection to port 9000 speaks.
    TransportLabel is "transport" {
        /// TLS.
        Tls = "tls",
        /// Plain HTTP.
        Plain = "plain",
        /// It ended before its first request.
        Failed = "failed",
    }
}

label! {
    /// How a write to the store went.
    StoreLabel is "outcome" {
        /// It is durable.
        Stored = "stored",
        /// It is not.
        Failed = "failed",
    }
}

label! {
    /// First digit of an answer's status.
    StatusLabel is "status" {
        /// Switching protocols.
        Informational = "1xx",
        /// Done.
        Success = "2xx",
        /// Look elsewhere.
        Redirection = "3xx",
        /// Refused.
        ClientError = "4xx",
        /// Failed.
        ServerError = "5xx",
    }
}

/// The gateway's counters. Clones count together.
#[derive(Clone, Debug)]
pub struct Telemetry(Arc<Instruments>);

/// All that is counted, for the page.
#[derive(Debug)]
pub(super) struct Instruments {
    pub(super) started: (Instant, SystemTime),
    pub(super) check_ins: Counts<CheckInLabel>,
    pub(super) check_in_seconds: Histogram,
    pub(super) events: Counts<EventLabel>,
    pub(super) tunnels_closed: Counts<CauseLabel>,
    pub(super) tunnel_wait_seconds: Histogram,
    pub(super) streams: Counts<StreamLabel>,
    pub(super) logins: Counts<LoginLabel>,
    pub(super) connections: Counts<TransportLabel>,
    pub(super) admissions: [Counts<AdmissionLabel>; 2],
    pub(super) failures: Counts<FailureLabel>,
    pub(super) refused_work: Counts<WorkLabel>,
    pub(super) live_connections: Arc<AtomicUsize>,
    pub(super) held_check_ins: Arc<AtomicUsize>,
    pub(super) requests: Operations,
    pub(super) store_writes: Counts<StoreLabel>,
    pub(super) store_write_seconds: Histogram,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self(Arc::new(Instruments {
            started: (Instant::now(), SystemTime::now()),
            check_ins: Counts::default(),
            check_in_seconds: Histogram::new(CHECK_IN_BOUNDS),
            events: Counts::default(),
            tunnels_closed: Counts::default(),
            tunnel_wait_seconds: Histogram::new(WAIT_BOUNDS),
            streams: Counts::default(),
            logins: Counts::default(),
            connections: Counts::default(),
            admissions: [Counts::default(), Counts::default()],
            failures: Counts::default(),
            refused_work: Counts::default(),
            live_connections: Arc::default(),
            held_check_ins: Arc::default(),
            requests: Operations::default(),
            store_writes: Counts::default(),
            store_write_seconds: Histogram::new(STORE_BOUNDS),
        }))
    }
}

impl Telemetry {
    pub(super) fn instruments(&self) -> &Instruments {
        &self.0
    }

    /// A check-in was answered.
    pub fn check_in(&self, answer: CheckInLabel) {
        self.0.check_ins.add(answer);
    }

    /// The registry took so long for a check-in. One that it was not asked about says nothing of how busy it is.
    pub fn check_in_took(&self, time: Duration) {
        self.0.check_in_seconds.observe(time);
    }

    /// Something happened to an edge.
    pub fn happened(&self, what: &What) {
        self.0.events.add(EventLabel::of(what));
        if let What::TunnelClosed { cause, .. } = what {
            self.0.tunnels_closed.add(CauseLabel::of(*cause));
        }
    }

    /// Somebody was let through to a tunnel after this time.
    pub fn tunnel_waited(&self, time: Duration) {
        self.0.tunnel_wait_seconds.observe(time);
    }

    /// A stream was opened, or was not.
    pub fn stream<T>(&self, opened: &Result<T, OpenError>) {
        self.0.streams.add(match opened {
            Ok(_) => StreamLabel::Opened,
            Err(OpenError::NoSuchEdge(_)) => StreamLabel::NoSuchEdge,
            Err(OpenError::NoSuchService { .. }) => StreamLabel::NoSuchService,
            Err(OpenError::NoTunnel { .. }) => StreamLabel::NoTunnel,
            Err(OpenError::Dial { .. }) => StreamLabel::Dial,
            Err(OpenError::Lost(_)) => StreamLabel::Lost,
            Err(OpenError::Refused { .. }) => StreamLabel::Refused,
        });
    }

    /// Somebody logged in over SSH, or did not.
    pub fn login(&self, login: LoginLabel) {
        self.0.logins.add(login);
    }

    /// Somebody knocked at a port.
    pub fn knocked(&self, port: PortLabel, verdict: AdmissionLabel) {
        self.0.admissions[port.index()].add(verdict);
    }

    /// Somebody did something for which their source is penalised.
    pub fn failed(&self, failure: Failure) {
        self.0.failures.add(match failure {
            Failure::Credential => FailureLabel::Credential,
            Failure::Nothing => FailureLabel::Nothing,
            Failure::Grace => FailureLabel::Grace,
            Failure::Crash => FailureLabel::Crash,
        });
    }

    /// There was no room for new work.
    pub fn refused_work(&self, work: WorkLabel) {
        self.0.refused_work.add(work);
    }

    /// A connection to port 9000 got as far as this.
    pub fn connected(&self, transport: TransportLabel) {
        self.0.connections.add(transport);
    }

    /// Counts a connection to port 9000 as live until the answer is dropped.
    pub fn connection(&self) -> LiveConnection {
        self.0.live_connections.fetch_add(1, Relaxed);
        LiveConnection(Arc::clone(&self.0.live_connections))
    }

    /// Counts a check-in as held until the answer is dropped; `None` where `most` are.
    pub fn hold_check_in(&self, most: usize) -> Option<HeldCheckIn> {
        let held = HeldCheckIn(Arc::clone(&self.0.held_check_ins));
        (self.0.held_check_ins.fetch_add(1, Relaxed) < most).then_some(held)
    }

    /// The counter of this operation's requests.
    pub fn requests(&self, operation: &'static str) -> Requests {
        let mut operations = self.0.requests.0.lock().unwrap_or_else(PoisonError::into_inner);
        operations.entry(operation).or_default().clone()
    }

    pub(super) fn store_wrote(&self, stored: bool, time: Duration) {
        self.0.store_writes.add(if stored { StoreLabel::Stored } else { StoreLabel::Failed });
        self.0.store_write_seconds.observe(time);
    }
}

/// A connection that is counted as live.
#[derive(Debug)]
pub struct LiveConnection(Arc<AtomicUsize>);

impl Drop for LiveConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A check-in that is counted as held.
#[derive(Debug)]
pub struct HeldCheckIn(Arc<AtomicUsize>);

impl Drop for HeldCheckIn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Answers of one operation of the API, by status.
#[derive(Clone, Debug, Default)]
pub struct Requests(Counts<StatusLabel>);

impl Requests {
    /// One was answered.
    pub fn answered(&self, status: StatusCode) {
        self.0.add(match status.as_u16() {
            ..200 => StatusLabel::Informational,
            200..300 => StatusLabel::Success,
            300..400 => StatusLabel::Redirection,
            400..500 => StatusLabel::ClientError,
            500.. => StatusLabel::ServerError,
        });
    }
}

/// Requests by operation. Guards which operations there are: written while the router is built, read by the page.
#[derive(Clone, Debug, Default)]
pub(super) struct Operations(Arc<Mutex<BTreeMap<&'static str, Requests>>>);

impl EncodeMetric for Operations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        use super::counts::Label as _;
        for (operation, Requests(counts)) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            for status in StatusLabel::ALL {
                let labels = [("operation", *operation), (StatusLabel::NAME, status.text())];
                let mut one = encoder.encode_family(&labels)?;
                one.encode_counter::<NoLabelSet, _, f64>(&counts.of(*status), None)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

impl From<&CheckInRefusal> for CheckInLabel {
    fn from(refusal: &CheckInRefusal) -> Self {
        match refusal {
            CheckInRefusal::UnknownKey => Self::UnknownKey,
            CheckInRefusal::BoundToAnother => Self::BoundToAnother,
            CheckInRefusal::SecondInstance { .. } => Self::SecondInstance,
            CheckInRefusal::Protocol { .. } => Self::Protocol,
            CheckInRefusal::Busy { .. } => Self::Busy,
            CheckInRefusal::Store(_) => Self::Store,
        }
    }
}

impl CauseLabel {
    fn of(cause: Cause) -> Self {
        match cause {
            Cause::Idle => Self::Idle,
            Cause::Operator => Self::Operator,
            Cause::Revoked => Self::Revoked,
            Cause::Shutdown => Self::Shutdown,
            Cause::Lost => Self::Lost,
        }
    }
}

impl EventLabel {
    fn of(what: &What) -> Self {
        match what {
            What::Created => Self::Created,
            What::Changed { .. } => Self::Changed,
            What::Deleted => Self::Deleted,
            What::Joined => Self::Joined,
            What::Dissociated => Self::Dissociated,
            What::Online { .. } => Self::Online,
            What::Offline { .. } => Self::Offline,
            What::Duplicate { .. } => Self::Duplicate,
            What::TunnelWanted => Self::TunnelWanted,
            What::TunnelOffered { .. } => Self::TunnelOffered,
            What::TunnelOpened { .. } => Self::TunnelOpened,
            What::TunnelClosed { .. } => Self::TunnelClosed,
            What::TunnelUnwanted { .. } => Self::TunnelUnwanted,
            What::SnapshotReceived { .. } => Self::SnapshotReceived,
        }
    }
}
