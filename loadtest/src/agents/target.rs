//! What agents are played against: a gateway that is started here, one that runs already, or the floor server. And their
//! identities there.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fixtures::seeded::Seeded;
use shared::fingerprint::{HostKeyFingerprint, TlsFingerprint};
use shared::id::{EdgeId, EdgeName};
use shared::join_token::JoinToken;
use shared::secret::Secret;
use shared::tls;
use shared::wire::admin::{Enrolled, Settings};
use shared::wire::check_in::{Authorization, Identity};
use tempfile::TempDir;

use super::options::Options;
use super::result::Target;
use super::sample::Watched;
use crate::admin::Admin;
use crate::gateway::{Gateway, Restarted};
use crate::process::{self, Process};

/// Idle time of the agents' edges: no tunnel is to close by itself in a measurement.
const IDLE_TIMEOUT_S: u32 = 604_800;
/// What the floor server's line with its address begins with.
const LISTENING: &str = "listening on ";

/// Something that answers check-ins.
#[derive(Debug)]
pub struct Server {
    /// What it is.
    pub kind: Target,
    /// Where it answers.
    pub api: SocketAddr,
    /// Its process, where that is known.
    pub watched: Option<Arc<Watched>>,
    /// An admin of it; the floor server has none.
    pub admin: Option<Admin>,
    running: Running,
    pin: TlsFingerprint,
}

#[derive(Debug)]
enum Running {
    Gateway(
        Box<Gateway>,
        #[expect(dead_code, reason = "kept for its drop, which removes the folder")] TempDir,
    ),
    Floor(
        #[expect(dead_code, reason = "kept for its drop, which ends the process")] Process,
        #[expect(dead_code, reason = "kept for its drop")] TempDir,
    ),
    Elsewhere,
}

/// Who the agents are, and what they need to know of the gateway.
#[derive(Debug)]
pub struct Crowd {
    /// One for each agent, in the order of their numbers.
    pub identities: Vec<Identity>,
    /// The names of their edges; none at the floor server.
    pub names: Vec<EdgeName>,
    /// Host keys that the gateway may show.
    pub host_keys: Vec<HostKeyFingerprint>,
    /// TLS keys that it may show.
    pub pins: Vec<TlsFingerprint>,
    /// How long their enrolment took.
    pub took: Duration,
}

impl Server {
    /// The gateway that the options name, or a new one.
    ///
    /// # Errors
    /// If it does not come up, or can't be reached.
    pub async fn gateway(options: &Options) -> Result<Self> {
        if let (Some(api), Some(file), Some(pin)) =
            (options.gateway, &options.token_file, options.tls_fingerprint)
        {
            let token = fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
            let admin = Admin::plain(api, Secret::new(token.trim().to_owned())).over_tls(pin)?;
            let kind = Target::RunningGateway;
            return Ok(Self {
                kind,
                api,
                watched: None,
                admin: Some(admin),
                running: Running::Elsewhere,
                pin,
            });
        }
        Self::start(options.tidegate.as_deref(), Vec::new()).await
    }

    /// A new gateway, of the program that is named or the one beside this one, with these flags besides its usual ones.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn start(program: Option<&Path>, flags: Vec<String>) -> Result<Self> {
        let program = beside(program, "tidegate")?;
        let folder = folder()?;
        let gateway = Gateway::start_with(&program, folder.path(), flags).await?;
        Ok(Self {
            kind: Target::Gateway,
            api: gateway.api,
            watched: Some(Arc::new(Watched::new(vec![gateway.id()]))),
            admin: Some(gateway.admin.clone()),
            pin: gateway.fingerprint,
            running: Running::Gateway(Box::new(gateway), folder),
        })
    }

    /// The floor server, which knows the agents of `options`; `program` where it is not the one beside this program.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn floor(program: Option<&Path>, options: &Options) -> Result<Self> {
        let program = beside(program, "examples/check-in-floor")?;
        let folder = folder()?;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).context("no certificate")?;
        let files = ["cert", "key", "edges"].map(|name| folder.path().join(name));
        let known: Vec<String> = strangers(options).map(|identity| identity.authorization.expose()).collect();
        let contents = [made.cert.pem(), made.signing_key.serialize_pem(), known.join("\n")];
        let mut command = process::program(&program);
        command.args(["--listen", "127.0.0.1:0"]);
        for ((flag, file), content) in ["--cert", "--key", "--edges"].into_iter().zip(&files).zip(contents) {
            fs::write(file, content).with_context(|| format!("can't write {}", file.display()))?;
            command.arg(flag).arg(file);
        }
        let mut process = Process::start("the floor server", command, folder.path().join("floor.log"))?;
        let api = process.printed("where it listens", listening).await?;
        let pin = tls::fingerprint_of(made.cert.der()).context("no fingerprint")?;
        let watched = Some(Arc::new(Watched::new(vec![process.id()])));
        Ok(Self {
            kind: Target::Floor,
            api,
            watched,
            admin: None,
            running: Running::Floor(process, folder),
            pin,
        })
    }

    /// The gateway that was started here.
    pub fn started(&self) -> Option<&Gateway> {
        match &self.running {
            Running::Gateway(gateway, _) => Some(gateway),
            Running::Floor(..) | Running::Elsewhere => None,
        }
    }

    /// Whether it is on this machine's loopback interface, where every address of 127.0.0.0/8 reaches it.
    pub fn is_loopback(&self) -> bool {
        matches!(self.api.ip(), IpAddr::V4(address) if address.is_loopback())
    }

    /// Enrols an edge for each agent, and those that stay without one.
    ///
    /// # Errors
    /// If the gateway refuses.
    pub async fn enrol(&self, options: &Options) -> Result<Crowd> {
        let seeded = Seeded::new(options.seed);
        let Some(admin) = &self.admin else {
            let identities = strangers(options).collect();
            let (names, host_keys, took) = (Vec::new(), Vec::new(), Duration::ZERO);
            return Ok(Crowd { identities, names, host_keys, pins: vec![self.pin], took });
        };
        let admin = admin.over_tls(self.pin)?;
        if let Some(hold) = options.hold {
            let settings = Settings { hold_s: Some(hold), ..Settings::default() };
            admin.set(&settings).await.context("this gateway does not hold questions")?;
        }
        let interval_s = u32::try_from(options.interval.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        let names = |kind: &str, count: u32| -> Vec<String> {
            (0..count).map(|number| format!("{kind}-{number:06}")).collect()
        };
        let begun = Instant::now();
        let enrolled = admin.enrol(&names("edge", options.count), interval_s, IDLE_TIMEOUT_S).await?;
        let took = begun.elapsed();
        admin.enrol(&names("idle", options.idle_edges), interval_s, IDLE_TIMEOUT_S).await?;
        crowd(&enrolled, &seeded, took)
    }

    /// Restarts the gateway that was started here.
    ///
    /// # Errors
    /// If it does not end, or does not come up again.
    pub async fn restart(&mut self) -> Result<Restarted> {
        let Running::Gateway(gateway, _) = &mut self.running else {
            anyhow::bail!("only a gateway that the harness started can be restarted")
        };
        if let Some(watched) = &self.watched {
            watched.ends(gateway.id());
        }
        let restarted = gateway.restart().await?;
        if let Some(watched) = &self.watched {
            watched.replaced(vec![gateway.id()]);
        }
        Ok(restarted)
    }
}

fn crowd(enrolled: &[Enrolled], seeded: &Seeded, took: Duration) -> Result<Crowd> {
    let mut identities = Vec::with_capacity(enrolled.len());
    let (mut host_keys, mut pins) = (Vec::new(), Vec::new());
    for (number, edge) in (0..).zip(enrolled) {
        let token: JoinToken =
            edge.join_token.parse().context("the gateway made a join token that is none")?;
        let edge_id: EdgeId = edge.edge_id.parse().context("the gateway made an edge ID that is none")?;
        identities.push(Identity {
            authorization: Authorization { edge_id, key: token.key },
            instance: seeded.instance_id(number),
        });
        (host_keys, pins) = (token.host_keys, token.tls_pins);
    }
    ensure!(
        !pins.is_empty(),
        "agents are played against gateways whose TLS key is pinned in join tokens only"
    );
    let names = enrolled.iter().map(|edge| edge.name.clone()).collect();
    Ok(Crowd { identities, names, host_keys, pins, took })
}

fn folder() -> Result<TempDir> {
    TempDir::with_prefix("tidegate-loadtest-").context("can't make a temporary folder")
}

/// A program that was named, or the one with this name beside this one.
fn beside(given: Option<&Path>, name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("can't tell where this program is")?;
    let path = given.map_or_else(|| own.with_file_name(name), Path::to_owned);
    ensure!(path.is_file(), "{} is missing: cargo build --release, or say where it is", path.display());
    Ok(path)
}

fn listening(log: &str) -> Option<SocketAddr> {
    log.lines().find_map(|line| line.strip_prefix(LISTENING)?.parse().ok())
}

/// Agents that no gateway has enrolled.
fn strangers(options: &Options) -> impl Iterator<Item = Identity> {
    let seeded = Seeded::new(options.seed);
    (0..options.count).map(move |number| seeded.identity(number.into()))
}
