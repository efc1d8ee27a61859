//! Who may be at a port before their login: one book for both ports, since an attacker has one address for both.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`policy`] | PURE: places before login, penalties, acquaintance |
//! | [`crowd`] | PURE: random early drop |
//! | [`source`] | whence somebody comes |
//! | [`proxy_header`] | the address that a load balancer speaks for |
//!
//! A connection that gets in is a [`Caller`]: it says when somebody logs in on it ([`Caller::welcome`]), hears when it has
//! to go ([`Caller::displaced`]), and gives its place back when its last clone is dropped. How often a password may be tried
//! is the business of [`crate::access`]; what may be had after a login, of the doors.

pub mod crowd;
pub mod policy;
pub mod proxy_header;
mod source;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use crate::telemetry::{AdmissionLabel, PortLabel, Telemetry};
use crowd::Crowd;
use policy::{CallerId, Census, DOORS, Limits, Policy};

pub use policy::{Failure, Refusal};
pub use source::Source;

/// Port 8000 before login. A login costs a key exchange, which is a millisecond of a processor and some 100 KiB; a thousand
/// of them is what may be under way when a region's agents come back at once. 64 of one source: a site's cluster that is
/// new here, or an office.
const SSH: Limits = Limits {
    all: Crowd { begin: 256, rate: 30, full: 1024 },
    of_source: Crowd { begin: 16, rate: 30, full: 64 },
};

/// Port 9000 before login: check-ins are through in three round trips, and a browser opens six connections at a time. But
/// after a restart nobody is known, and the agents of a company behind one address all come back: a thousand within an
/// interval are a hundred at a time on a slow line.
const HTTP_OF_SOURCE: Crowd = Crowd { begin: 128, rate: 30, full: 384 };
/// A quarter of all connections, so that a flood of strangers leaves the rest to agents.
const HTTP_SHARE: usize = 4;
/// No more than this, however many connections there may be.
const HTTP_MOST: usize = 4096;

/// A port that somebody knocks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// 9000.
    Http,
    /// 8000.
    Ssh,
}

impl Port {
    fn index(self) -> usize {
        match self {
            Self::Http => 0,
            Self::Ssh => 1,
        }
    }

    fn label(self) -> PortLabel {
        match self {
            Self::Http => PortLabel::Http,
            Self::Ssh => PortLabel::Ssh,
        }
    }
}

/// The book. Cheap to clone.
#[derive(Clone)]
pub struct Admission(Arc<Shared>);

struct Shared {
    /// Held for a look-up, never across an await.
    policy: Mutex<Policy<CancellationToken>>,
    /// Neither limited nor penalised.
    exempt: Vec<IpNet>,
    telemetry: Telemetry,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admission")
    }
}

impl Admission {
    /// For a gateway whose port 9000 may have so many connections.
    pub fn new(max_connections: usize, exempt: Vec<IpNet>, telemetry: Telemetry) -> Self {
        let full = (max_connections / HTTP_SHARE).clamp(1, HTTP_MOST);
        let all = Crowd { begin: (full / 4).max(1), rate: 30, full };
        let mut limits = [SSH; DOORS];
        limits[Port::Http.index()] = Limits { all, of_source: HTTP_OF_SOURCE };
        Self(Arc::new(Shared { policy: Mutex::new(Policy::new(limits)), exempt, telemetry }))
    }

    /// Somebody knocks. Whose place they take is told to go.
    pub fn enter(&self, port: Port, from: IpAddr) -> Result<Caller, Refusal> {
        let bell = CancellationToken::new();
        let roll = rand::random_range(0..100);
        let exempt = self.is_exempt(from);
        let entered =
            self.policy().enter(port.index(), from.into(), exempt, bell.clone(), (Instant::now(), roll));
        self.0.telemetry.knocked(
            port.label(),
            match &entered {
                Ok(entered) if entered.probation => AdmissionLabel::Probation,
                Ok(_) => AdmissionLabel::Admitted,
                Err(Refusal::Penalised) => AdmissionLabel::Penalised,
                Err(Refusal::SourceCrowded) => AdmissionLabel::SourceCrowded,
                Err(Refusal::Crowded) => AdmissionLabel::Crowded,
            },
        );
        let entered = entered.inspect_err(|refusal| {
            tracing::debug!(?port, peer = %from, ?refusal, "a connection was refused");
        })?;
        if let Some(displaced) = entered.displaced {
            self.0.telemetry.knocked(port.label(), AdmissionLabel::Displaced);
            displaced.cancel();
        }
        let (id, probation, welcomed) = (entered.id, entered.probation, AtomicBool::new(false));
        let admission = self.clone();
        let place = Arc::new(Place { admission, port, from, id, bell, probation, welcomed });
        Ok(Caller { place, client: None })
    }

    /// Somebody failed there. Says so in the log where the penalty begins to count.
    pub fn failed(&self, from: IpAddr, failure: Failure) {
        if self.is_exempt(from) {
            return;
        }
        self.0.telemetry.failed(failure);
        let (source, now) = (Source::from(from), Instant::now());
        let mut policy = self.policy();
        let before = policy.penalty(source, now);
        policy.failed(source, failure, now);
        let after = policy.penalty(source, now);
        drop(policy);
        if let (None, Some(penalty)) = (before, after) {
            tracing::info!(peer = %from, penalty_s = penalty.as_secs(), ?failure, "a source is penalised");
        }
    }

    /// Somebody there showed a good credential.
    fn acquaint(&self, from: IpAddr) {
        self.policy().acquaint(from.into(), Instant::now());
    }

    /// How long a source is penalised for, if it is.
    pub fn penalty(&self, from: IpAddr) -> Option<Duration> {
        self.policy().penalty(from.into(), Instant::now())
    }

    /// How it stands.
    pub fn census(&self) -> Census {
        self.policy().census(Instant::now())
    }

    fn is_exempt(&self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        self.0.exempt.iter().any(|network| network.contains(&from))
    }

    fn policy(&self) -> MutexGuard<'_, Policy<CancellationToken>> {
        self.0.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that got in. Clones are the same connection; it leaves with the last.
#[derive(Clone, Debug)]
pub struct Caller {
    place: Arc<Place>,
    /// Whom it speaks for, where it is a proxy's.
    client: Option<IpAddr>,
}

#[derive(Debug)]
struct Place {
    admission: Admission,
    port: Port,
    from: IpAddr,
    id: CallerId,
    bell: CancellationToken,
    probation: bool,
    /// Somebody logged in on it.
    welcomed: AtomicBool,
}

impl Caller {
    /// The same connection, as far as `client` speaks through it.
    pub fn speaking_for(&self, client: IpAddr) -> Self {
        Self { client: Some(client), ..self.clone() }
    }

    /// Somebody showed a good credential: the place before login is free again. Cheap after the first time.
    pub fn welcome(&self) {
        let Place { admission, port, id, welcomed, .. } = &*self.place;
        if !welcomed.load(Relaxed) && admission.policy().welcome(port.index(), *id, Instant::now()) {
            welcomed.store(true, Relaxed);
        }
        if let Some(client) = self.client {
            admission.acquaint(client);
        }
    }

    /// Whether somebody did.
    pub fn is_welcome(&self) -> bool {
        self.place.welcomed.load(Relaxed)
    }

    /// They failed.
    pub fn failed(&self, failure: Failure) {
        self.place.admission.failed(self.address(), failure);
    }

    /// How long they are penalised for, if they are.
    pub fn penalty(&self) -> Option<Duration> {
        self.place.admission.penalty(self.address())
    }

    /// Waits until somebody else needs the place more. Never, once it was welcomed.
    pub async fn displaced(&self) {
        self.place.bell.cancelled().await;
    }

    /// Whether the first failure is to be the last.
    pub fn is_on_probation(&self) -> bool {
        self.place.probation
    }

    fn address(&self) -> IpAddr {
        self.client.unwrap_or(self.place.from)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (mut policy, now) = (self.admission.policy(), Instant::now());
        if self.welcomed.load(Relaxed) {
            policy.guest_left(self.from.into(), now);
        } else {
            policy.left(self.port.index(), self.id, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn admission() -> Admission {
        Admission::new(1000, vec!["192.0.2.200/30".parse().expect("a network")], Telemetry::default())
    }

    fn before_login(admission: &Admission) -> [usize; DOORS] {
        admission.census().before_login
    }

    #[test]
    fn a_place_is_given_back_by_the_last_clone_and_by_a_login() {
        let admission = admission();
        let caller = admission.enter(Port::Ssh, address(1)).expect("there is room");
        let clone = caller.clone();
        drop(caller);
        assert_eq!(before_login(&admission), [0, 1]);
        clone.welcome();
        clone.welcome();
        assert!(clone.is_welcome());
        assert_eq!(before_login(&admission), [0, 0]);
        drop(clone);
        let stranger = admission.enter(Port::Http, address(2)).expect("there is room");
        assert_eq!(before_login(&admission), [1, 0]);
        drop(stranger);
        assert_eq!(before_login(&admission), [0, 0]);
    }

    #[test]
    fn both_doors_know_who_failed_at_one() {
        let admission = admission();
        for _ in 0..3 {
            admission.failed(address(1), Failure::Credential);
        }
        assert!(admission.penalty(address(1)).is_some() && admission.penalty(address(2)).is_none());
        for port in [Port::Http, Port::Ssh] {
            assert!(admission.enter(port, address(1)).expect("the lane").is_on_probation());
        }
        let proxy = admission.enter(Port::Http, address(9)).expect("a place");
        proxy.speaking_for(address(1)).welcome();
        assert!(!admission.enter(Port::Ssh, address(1)).expect("a place").is_on_probation());
    }

    #[test]
    fn exempt_networks_are_never_penalised() {
        let admission = admission();
        for _ in 0..100 {
            admission.failed(address(201), Failure::Crash);
        }
        assert_eq!(admission.penalty(address(201)), None);
    }

    #[test]
    fn strangers_get_a_share_of_all_connections() {
        let full = |connections| {
            let admission = Admission::new(connections, vec![], Telemetry::default());
            let callers: Vec<_> = (0..u32::try_from(connections).expect("few"))
                .map_while(|source| {
                    admission.enter(Port::Http, std::net::Ipv4Addr::from_bits(source).into()).ok()
                })
                .collect();
            callers.len()
        };
        assert!((1..=2).contains(&full(8)));
        assert!(full(400) <= 100);
    }
}
