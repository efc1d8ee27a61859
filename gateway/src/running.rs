//! A gateway from its start to the end of its drain. The caller owns sockets, store and signals.
//!
//! The rule of the end: no new work, then live streams and requests have the grace, then the rest is cut and counted.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;
use shared::secret::Secret;
use shared::tunnel::pool::WindowBudget;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::access::{Access, TokenError};
use crate::admission::Admission;
use crate::admission::proxy_header::ProxyHeaders;
use crate::audit::{Audit, Entry};
use crate::budget::Budget;
use crate::budget::memory::{self, Memory};
use crate::config::Config;
use crate::data_dir::{read_secret, write_secret};
use crate::http::browse::passes::Passes;
use crate::http::listener::{self, MAX_CONNECTIONS, Policy, Stop};
use crate::http::public::PublicAddresses;
use crate::http::snapshot::Uploads;
use crate::http::{ApiState, router};
use crate::identity::Identity;
use crate::readiness::{Listener, Readiness};
use crate::ssh;
use crate::store::{Store, StoreError};
use crate::telemetry::{self, Page, Telemetry, Timed, Vitals};
use crate::tunnels::Tunnels;

/// Label of the token that `--bootstrap-token-file` makes.
const BOOTSTRAP_LABEL: &str = "bootstrap";
/// How often the drain looks whether streams are left. Short beside any grace, long beside the look itself.
const DRAIN_LOOK: Duration = Duration::from_millis(50);
/// After the cut the tasks only have to notice it, and agents may take two seconds to take their leave.
const CUT_TIMEOUT: Duration = Duration::from_secs(4);
/// A connection of port 9000 costs one open file, and so does a tunnel. One in so many of them is kept from connections, for
/// tunnels, the store and the audit log: agents that wait must not keep out the few that are needed.
const FILES_PER_RESERVED: usize = 25;
/// At least so many, where the system allows few: the store and the listeners have some 30, the rest is for tunnels.
const LEAST_RESERVED: usize = 128;
/// Below this a word in the log: it is less than half of what most systems allow a service.
const FEW_CONNECTIONS: usize = 16_384;

/// The sockets that the gateway listens on.
#[derive(Debug)]
pub struct Listeners {
    /// Check-ins, admin API, page.
    pub api: TcpListener,
    /// Tunnels.
    pub ssh: TcpListener,
    /// The page of metrics, where there is one.
    pub metrics: Option<TcpListener>,
}

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}, which is {option}: {source}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The flag that sets it.
    pub option: &'static str,
    /// Why.
    pub source: io::Error,
}

impl Listeners {
    /// Binds both addresses of the configuration.
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        Ok(Self {
            api: bind(config.api_addr, "--api-addr").await?,
            ssh: bind(config.ssh_addr, "--ssh-addr").await?,
            metrics: bind_metrics(config).await?,
        })
    }
}

/// Where the default address is taken (Prometheus' node_exporter has the same port), a gateway without metrics is better
/// than none; an address that somebody chose must be had.
async fn bind_metrics(config: &Config) -> Result<Option<TcpListener>, BindError> {
    let Some(address) = config.metrics_addr else { return Ok(None) };
    match bind(address, "--metrics-addr").await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if config.has_default_metrics_addr() => {
            warn!(%error, "no metrics are served; choose another address with --metrics-addr, or none");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn bind(address: SocketAddr, option: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, option, source })
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store can't be read.
    #[error("can't read the store: {0}")]
    Store(#[from] StoreError),
    /// The audit log can't be opened.
    #[error("can't open the audit log in {folder}: {source}")]
    Audit {
        /// The data folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A socket tells no address.
    #[error("can't tell the address of a listening socket: {0}")]
    Address(io::Error),
    /// The bootstrap token can't be made.
    #[error("can't make the bootstrap token: {0}")]
    Token(#[from] TokenError),
    /// The bootstrap token can't be written.
    #[error("can't write the bootstrap token to {file}: {source}")]
    TokenFile {
        /// Where to.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A gateway at work.
pub struct Running {
    /// Where port 9000 really is.
    pub api_addr: SocketAddr,
    /// Where port 8000 really is.
    pub ssh_addr: SocketAddr,
    /// Where the page of metrics really is.
    pub metrics_addr: Option<SocketAddr>,
    tunnels: Tunnels,
    audit: Audit,
    readiness: Readiness,
    certificate: watch::Sender<Arc<ServerConfig>>,
    http_stop: Stop,
    ssh_stop: CancellationToken,
    /// One for each listener.
    tasks: JoinSet<Listener>,
    grace: Duration,
    /// The page of metrics and what feeds the series: until the end of the drain.
    watching: JoinSet<()>,
}

/// Starts a gateway on these sockets and this store.
pub async fn start(
    config: &Config,
    identity: Identity,
    listeners: Listeners,
    store: Arc<dyn Store>,
) -> Result<Running, StartError> {
    let api_addr = listeners.api.local_addr().map_err(StartError::Address)?;
    let ssh_addr = listeners.ssh.local_addr().map_err(StartError::Address)?;
    let metrics_addr = listeners.metrics.as_ref().map(TcpListener::local_addr);
    let metrics_addr = metrics_addr.transpose().map_err(StartError::Address)?;
    let telemetry = Telemetry::default();
    let store: Arc<dyn Store> = Arc::new(Timed::new(store, telemetry.clone()));
    let mut records = store.load()?;
    let audit = open_audit(config).await?;
    let access = Access::load(&mut records, Arc::clone(&store));
    if let Some(file) = &config.bootstrap_token_file {
        bootstrap_token(file, &access).await?;
    }
    let (url, ssh) = (config.public_url.clone(), config.public_ssh.clone());
    let public = PublicAddresses::new(url, ssh, ssh_addr.port(), &records.settings)
        .with_service_domain(config.service_domain.clone());
    let set_up = access.set_up_code().map(|code| {
        let base = public.configured_url().unwrap_or_else(|| format!("https://{api_addr}"));
        (format!("{}/setup", base.trim_end_matches('/')), code)
    });
    let tunnels = Tunnels::start(Arc::clone(&store), records, audit.clone(), telemetry.clone());
    let readiness = Readiness::new(Arc::clone(&store), audit.clone());
    let max_connections = max_connections(raise_open_files());
    let proxies = config.trusted_proxies.iter().copied();
    // A proxy's connections are its clients': those are judged by what the proxy says of them.
    let exempt = config.exempt.iter().copied().chain(proxies.filter(|_| !config.proxy_protocol)).collect();
    let admission = Admission::new(max_connections, exempt, telemetry.clone());
    let memory = Memory::new(config.memory_budget, memory::base(config.memory_budget, config.store_cache));
    if memory.used() > memory.budget() / 4 * 3 {
        warn!(
            budget_mib = memory.budget() >> 20,
            idle_mib = memory.used() >> 20,
            "most of the memory budget is needed by a gateway that does nothing; raise --memory-budget-mib"
        );
    }
    let budget = Budget::new(memory, telemetry.clone());
    let tunnels = tunnels.within(budget.clone());
    let vitals = Vitals::new(
        telemetry.clone(),
        tunnels.clone(),
        readiness.clone(),
        (admission.clone(), budget.clone()),
        config.data_dir.clone(),
    );
    let watching = watch(&vitals, listeners.metrics);
    let router = router(ApiState {
        tunnels: tunnels.clone(),
        access: access.clone(),
        audit: audit.clone(),
        store,
        data_dir: config.data_dir.clone(),
        host_keys: vec![identity.host_key.public_key().clone()],
        tls_pins: identity.tls_pins,
        public,
        passes: Passes::default(),
        readiness: readiness.clone(),
        uploads: Uploads::default(),
        vitals,
        budget: budget.clone(),
    });
    let proxies = if config.proxy_protocol { config.trusted_proxies.clone() } else { Vec::new() };
    let proxy_headers = ProxyHeaders::from_peers_in(proxies);
    let policy = Policy {
        plain_http: config.plain_http,
        trusted_proxies: config.trusted_proxies.clone(),
        proxy_headers: proxy_headers.clone(),
        max_connections,
    };
    let (certificate, latest) = watch::channel(identity.tls);
    let (http_stop, ssh_stop) = (Stop::default(), CancellationToken::new());
    let (http_up, ssh_up) = (readiness.up(Listener::Http), readiness.up(Listener::Ssh));
    let mut tasks = JoinSet::new();
    let rooms = listener::Rooms {
        telemetry,
        admission: admission.clone(),
        budget: budget.clone(),
        audit: audit.clone(),
    };
    let stop = http_stop.clone();
    tasks.spawn(async move {
        let _up = http_up;
        listener::serve(listeners.api, policy, latest, router, rooms, stop).await;
        Listener::Http
    });
    let rooms = ssh::Rooms {
        tunnels: tunnels.clone(),
        access,
        audit: audit.clone(),
        admission,
        budget,
        windows: WindowBudget::new(memory::windows(config.memory_budget)),
        proxy_headers,
    };
    let stop = ssh_stop.clone();
    tasks.spawn(async move {
        let _up = ssh_up;
        ssh::serve(listeners.ssh, identity.host_key, rooms, stop).await;
        Listener::Ssh
    });
    info!(
        version = env!("CARGO_PKG_VERSION"), api = %api_addr, ssh = %ssh_addr,
        metrics = metrics_addr.map(|address| address.to_string()),
        host_key_fingerprint = %identity.host_key_fingerprint, tls_fingerprint = %identity.tls_fingerprint,
        "gateway is ready"
    );
    if let Some((url, code)) = set_up {
        // On purpose: who reads the gateway's log may set it up, and the code is worth nothing once somebody did.
        info!(url, code = code.expose(), "set up the first user");
    }
    let grace = config.drain_grace;
    Ok(Running {
        api_addr,
        ssh_addr,
        metrics_addr,
        tunnels,
        audit,
        readiness,
        certificate,
        http_stop,
        ssh_stop,
        tasks,
        grace,
        watching,
    })
}

/// What looks at the gateway while it works, and has no part in it.
fn watch(vitals: &Vitals, metrics: Option<TcpListener>) -> JoinSet<()> {
    let mut watching = JoinSet::new();
    watching.spawn(telemetry::sample(vitals.clone()));
    if let Some(listener) = metrics {
        let page = Arc::new(Page::new(vitals.clone()));
        watching.spawn(telemetry::listener::serve(listener, page));
    }
    watching
}

impl Running {
    /// New connections get this certificate. Those that are open keep theirs.
    pub fn replace_certificate(&self, tls: Arc<ServerConfig>) {
        self.certificate.send_replace(tls);
    }

    /// Waits for a listener's task to end, which it does only by a defect while nobody calls [`Self::shutdown`].
    pub async fn failed(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(listener)) => error!(?listener, "a listener ended by itself"),
            Some(Err(error)) => error!(%error, "a listener ended by itself"),
            None => {}
        }
    }

    /// Takes no new work, gives live streams and requests the grace, cuts the rest. The grace ends early when `hurry`
    /// is cancelled. Returns how many streams were cut.
    pub async fn shutdown(mut self, hurry: &CancellationToken) -> usize {
        self.readiness.drain();
        self.http_stop.graceful.cancel();
        self.ssh_stop.cancel();
        info!(streams = self.tunnels.live_streams(), grace_s = self.grace.as_secs(), "draining");
        let drained = async {
            self.tunnels.drain().await;
            no_streams(&self.tunnels).await;
            // Tunnels without a stream hold nothing up; their agents look for the next gateway.
            self.tunnels.cut().await;
            while self.tasks.join_next().await.is_some() {}
        };
        tokio::select! {
            () = drained => {}
            () = tokio::time::sleep(self.grace) => {}
            () = hurry.cancelled() => {}
        }
        let cut = self.tunnels.live_streams();
        self.http_stop.now.cancel();
        if cut > 0 {
            warn!(streams = cut, "cut streams that were live after the grace");
        }
        self.tunnels.cut().await;
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(CUT_TIMEOUT, ended).await.is_err() {
            warn!("a listener's task did not end in time");
        }
        self.watching.shutdown().await;
        self.tunnels.write_history().await;
        if let Err(error) = self.tunnels.write_last_seen().await {
            warn!(%error, "last-seen times could not be stored");
        }
        self.audit.record_if_possible(Entry::by_gateway("gateway.stop")).await;
        self.audit.close().await;
        let place = self.audit.head();
        info!(audit_seq = place.seq, audit_hash = %place.hash, "gateway is down");
        cut
    }
}

/// Opens the audit log and records the start. A log that can't be written is no reason not to serve what needs no record.
async fn open_audit(config: &Config) -> Result<Audit, StartError> {
    let (data_dir, max_bytes) = (config.data_dir.clone(), config.audit_max);
    let opened = tokio::task::spawn_blocking(move || Audit::open(&data_dir, max_bytes)).await;
    let failed = |source| StartError::Audit { folder: config.data_dir.clone(), source };
    let audit = opened.map_err(|error| failed(io::Error::other(error)))?.map_err(failed)?;
    let version = concat!("version ", env!("CARGO_PKG_VERSION"));
    audit.record_if_possible(Entry::by_gateway("gateway.start").detail(version)).await;
    let place = audit.head();
    info!(audit_seq = place.seq, audit_hash = %place.hash, "the audit log goes on");
    Ok(audit)
}

/// Waits until no stream is live. The count has no bell; a look now and then is cheap.
async fn no_streams(tunnels: &Tunnels) {
    let mut look = interval(DRAIN_LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while tunnels.live_streams() > 0 {
        look.tick().await;
    }
}

/// Makes an admin API token and writes it to `file`, unless there is such a file.
async fn bootstrap_token(file: &Path, access: &Access) -> Result<(), StartError> {
    let failed = |source| StartError::TokenFile { file: file.to_owned(), source };
    if let Some(kept) = read_secret(file).map_err(failed)? {
        if access.by_token(kept.expose().trim()).is_none() {
            warn!(file = %file.display(), "the bootstrap token is not known here; delete the file to get a new one");
        }
        return Ok(());
    }
    let new = access.tokens().create_unbound(BOOTSTRAP_LABEL).await?;
    let line = Secret::new(format!("{}\n", new.token.expose()));
    write_secret(file, line.expose().as_bytes()).map_err(failed)?;
    info!(file = %file.display(), token = %new.record.id, "made an admin API token");
    Ok(())
}

/// As many as the open files allow, and a word where that is few.
fn max_connections(files: usize) -> usize {
    let reserved = (files / FILES_PER_RESERVED).max(LEAST_RESERVED).min(files / 2);
    let most = files - reserved;
    if most < FEW_CONNECTIONS {
        warn!(
            files,
            connections = most,
            "the limit of open files allows few connections; raise it (ulimit -n)"
        );
    }
    most.min(MAX_CONNECTIONS)
}

/// Raises the number of files that may be open as far as the system lets us, and answers with it.
fn raise_open_files() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit = raised,
        Err(error) => warn!(%error, "can't raise the limit of open files"),
    }
    limit.current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::edge::Records;
    use crate::store::SledStore;

    #[test]
    fn connections_leave_open_files_to_tunnels_and_the_store() {
        assert_eq!(max_connections(20_000), 19_200);
        assert_eq!(max_connections(1_024), 896);
        assert_eq!(max_connections(100), 50);
        assert_eq!(max_connections(usize::MAX), MAX_CONNECTIONS);
    }

    #[tokio::test]
    async fn bootstrap_token_is_made_once_and_again_only_where_its_file_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> =
            Arc::new(SledStore::open(&folder.path().join("s"), 1 << 20).expect("a store"));
        let access = Access::load(&mut Records::default(), store);
        let file = folder.path().join("token");
        bootstrap_token(&file, &access).await.expect("made");
        let first = std::fs::read_to_string(&file).expect("written");
        let operator = access.by_token(first.trim()).expect("it is known");
        assert!(operator.may_everything());
        bootstrap_token(&file, &access).await.expect("kept");
        assert_eq!(std::fs::read_to_string(&file).expect("kept"), first);
        assert_eq!(access.tokens().visible_to(&operator).len(), 1);
        std::fs::remove_file(&file).expect("it is there");
        bootstrap_token(&file, &access).await.expect("made again");
        assert_eq!(access.tokens().visible_to(&operator).len(), 2);
        // A foreign token is left alone: it may be somebody's only copy.
        std::fs::write(&file, "tga_of_another_gateway").expect("written");
        bootstrap_token(&file, &access).await.expect("kept");
        assert_eq!(std::fs::read_to_string(&file).expect("kept"), "tga_of_another_gateway");
    }
}
