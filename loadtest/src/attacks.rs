//! The open internet against one gateway, with honest agents and operators at work beside it.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`options`] | the command line |
//! | [`result`] | what a run came to, and what of it is a fault |
//! | [`attack`] | the attacks by name |
//! | [`account`] | what attackers sent, and what became of it |
//! | [`field`] | what attackers know and own |
//! | [`bystanders`], [`vitals`] | the honest ones, and the gateway's process, while it goes on |
//! | [`stranger`] | attacks of those who have no credential |
//! | [`agent`] | attacks of those who have an edge's key |
//! | [`http`] | bodies that are not what they should be, and what browsers are shown |
//!
//! A run is a time without attack first, to compare with, and then one attack after the other:
//!
//! ```text
//! start ── honest ones join ── baseline ──┬─ attack ───────────┬── newcomers are served again ── next
//!                                         └─ honest ones work ─┘
//! ```
//!
//! The rules: what must not happen is judged by each attack itself ([`account::Account::must`]), what must go on by
//! [`result::Phase::faults`] alike for all; attackers have threads of their own, and the honest ones processes of their
//! own, so that the harness does not mistake its own work for the gateway's.

pub mod account;
pub mod agent;
pub mod attack;
pub mod bystanders;
pub mod field;
pub mod http;
pub mod options;
pub mod result;
pub mod stranger;
pub mod vitals;

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::agents::plan::Plan;
use crate::agents::target::Server;
use crate::gateway::Gateway;
use crate::machine::Circumstances;
use account::Account;
use attack::Attack;
use bystanders::{Bystanders, recovered};
use field::{Field, Force};
use options::Options;
use result::{AttacksReport, Phase};
use vitals::Watch;

/// Threads of the attackers.
const THREADS: usize = 2;
/// Longest wait for newcomers to be served after an attack: the grace of port 8000 is 20 s, and that of port 9000 shorter.
const RECOVERY: Duration = Duration::from_secs(60);
/// Longest attack beyond its length: those that wait for something to expire.
const LONGEST: Duration = Duration::from_secs(180);

/// Runs what the options ask for. `step` hears what begins.
///
/// # Errors
/// If this machine is too small, the gateway does not come up, or what is not under attack does not work.
pub async fn measure(
    options: &Options,
    interrupt: &CancellationToken,
    step: impl Fn(&str),
) -> Result<AttacksReport> {
    let circumstances = Circumstances::now(options.seed);
    step("starting the gateway");
    let mut server = Server::start(options.tidegate.as_deref(), options.flags()).await?;
    step("honest agents join");
    let mut bystanders = Bystanders::enter(&server, options, interrupt).await?;
    let (ask, mut asked) = mpsc::channel(1);
    let neighbour = Plan::new(options.seed, options.agents, options.interval).source(0);
    let force = Force { scale: options.scale, length: options.length(), neighbour };
    let field = Field::of(started(&server)?, force, ask).await?;
    let attackers = Attackers::new()?;
    let mut phases = Vec::new();

    step("baseline");
    let length = options.length().max(options.interval * 2);
    let quiet = async {
        sleep(length).await;
        Ok(Account::default())
    };
    phases.push(phase(None, &mut server, &mut bystanders, &mut asked, &field, phases.len(), quiet).await?);
    for attack in options.attacks() {
        if interrupt.is_cancelled() {
            break;
        }
        step(&attack.name());
        let number = phases.len();
        let running = attackers.run(attack.run(field.with_crowd(u32::try_from(number)?)));
        let running =
            phase(Some(attack), &mut server, &mut bystanders, &mut asked, &field, number, running).await;
        phases.push(running.with_context(|| format!("the attack {} can't be run", attack.name()))?);
    }
    step("everybody goes home");
    bystanders.leave().await?;
    Ok(AttacksReport { circumstances, setup: options.setup(), phases })
}

fn started(server: &Server) -> Result<&Gateway> {
    server.started().context("a gateway that runs already can't be attacked")
}

/// One attack with everything beside it, or the time before the first.
async fn phase(
    attack: Option<Attack>,
    server: &mut Server,
    bystanders: &mut Bystanders,
    asked: &mut mpsc::Receiver<oneshot::Sender<()>>,
    field: &Field,
    number: usize,
    attacking: impl Future<Output = Result<Account>>,
) -> Result<Phase> {
    let restarted = attack.is_some_and(Attack::restarts);
    let begun = Instant::now();
    let gateway = started(server)?;
    let (watch, panics) = (Watch::over(gateway.id()), gateway.panics()?);
    let limited =
        async { tokio::time::timeout(field.length() + LONGEST, attacking).await.context("it does not end")? };
    let answering = async {
        tokio::pin!(limited);
        loop {
            tokio::select! {
                account = &mut limited => return account,
                Some(done) = asked.recv() => {
                    server.restart().await?;
                    // Who asked may have given up.
                    let _ = done.send(());
                }
            }
        }
    };
    let (account, honest) = bystanders.beside(restarted, answering).await;
    let account = account?;
    // A gateway that was started anew has a new log.
    let before = if restarted { 0 } else { panics };
    let seconds = begun.elapsed().as_secs_f64();
    let newcomer = field.newcomer(5000 + u32::try_from(number)?);
    let recovery = recovered(RECOVERY, async || field.serves(newcomer).await).await;
    Ok(Phase {
        name: attack.map_or_else(|| "baseline".to_owned(), Attack::name),
        about: attack.map_or_else(|| "Honest work alone".to_owned(), Attack::about),
        seconds,
        restarted,
        sent: account.sent,
        fates: account.fates.iter().map(|(fate, count)| (fate.to_string(), *count)).collect(),
        wrong: account.wrong,
        honest,
        gateway: watch.end(started(server)?.panics()?.saturating_sub(before), restarted),
        recovery_ms: recovery.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
    })
}

/// Threads for attackers, so that what they do waits for nobody honest and nobody honest for them.
struct Attackers(Option<Runtime>);

impl Attackers {
    fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
        Ok(Self(Some(runtime.context("no threads for attackers")?)))
    }

    async fn run(&self, attack: impl Future<Output = Result<Account>> + Send + 'static) -> Result<Account> {
        let Some(runtime) = &self.0 else { bail!("the attackers went home") };
        runtime.spawn(attack).await.context("an attacker panicked")?
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        // A runtime may not be waited for within another one.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
