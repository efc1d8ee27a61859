//! Agents in processes of their own, where one may not have as many files open as all of them need.
//!
//! A worker is this program again. It reads its [`Job`] and then [`Order`]s from standard input, one JSON object a line,
//! and writes what happened since it last wrote ([`Word`]) to standard output. Schedules are the same in any number of
//! workers: an agent's number decides what is due when. The rule: a worker ends with its standard input, so none outlives
//! the run.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use shared::id::InstanceId;
use shared::wire::check_in::Identity;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::agent::Common;
use super::cast::{Cast, Company};
use super::plan::Vanishing;
use super::tally::Word;

/// The subcommand of a worker.
pub const SUBCOMMAND: &str = "agents-worker";
/// From one word of a worker to the next.
const WORDS: Duration = Duration::from_millis(100);
/// Orders that wait for a worker, which takes them at once.
const ORDERS: usize = 1024;

/// What a worker is to do.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    /// What all agents have in common.
    cast: Cast,
    /// When the run began, by the clock that all processes of a machine share.
    began: SystemTime,
    /// Number of the first of its agents.
    first: u32,
    /// Who they are: `authorization` and instance of each. Secrets, on a pipe that nobody else reads.
    identities: Vec<(String, InstanceId)>,
}

/// What agents are told while a run goes on. Times are distances from its begin.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The measurement is from then to then.
    Window(Duration, Duration),
    /// It ends earlier.
    EndAt(Duration),
    /// The gateway was started anew.
    Restarted,
    /// An agent is to vanish.
    Vanish(u32, Vanishing),
    /// Everybody goes home.
    Over,
}

/// The workers of a run.
#[derive(Debug)]
pub struct Workers {
    /// Their processes.
    pub ids: Vec<u32>,
    orders: Vec<mpsc::Sender<Order>>,
    tasks: JoinSet<Result<()>>,
}

impl Workers {
    /// Starts `count` workers, each with its share of the agents, which begin at once.
    ///
    /// # Errors
    /// If they can't be started.
    pub fn start(common: &Arc<Common>, cast: &Cast, identities: &[Identity], count: usize) -> Result<Self> {
        let program = std::env::current_exe().context("can't tell where this program is")?;
        common.tally.expect_words(count);
        let began = SystemTime::now().checked_sub(common.now()).context("the clock is before 1970")?;
        let (mut ids, mut orders, mut tasks) = (Vec::new(), Vec::new(), JoinSet::new());
        let mut first = 0;
        for (number, share) in identities.chunks(identities.len().div_ceil(count)).enumerate() {
            let job = Job {
                cast: cast.clone(),
                began,
                first,
                identities: share.iter().map(|who| (who.authorization.expose(), who.instance)).collect(),
            };
            first += u32::try_from(share.len()).context("too many agents")?;
            let (sender, ordered) = mpsc::channel(ORDERS);
            orders.push(sender);
            let mut command = Command::new(&program);
            // Of its own group, so that Ctrl-C is this process's to answer.
            command.arg(SUBCOMMAND).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
            let child = command.spawn().context("can't start a worker")?;
            ids.push(child.id());
            tasks.spawn(employ(child, job, ordered, Arc::clone(common), number));
        }
        Ok(Self { ids, orders, tasks })
    }

    /// Passes an order on.
    pub fn tell(&self, order: Order) {
        for worker in &self.orders {
            // One that takes no orders any more has ended, which is noticed at the end.
            let _ = worker.try_send(order);
        }
    }

    /// Waits until all have gone home.
    ///
    /// # Errors
    /// If one ended before it was told to, or badly.
    pub async fn end(&mut self) -> Result<()> {
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            result = result.and(ended.context("a worker's task panicked").flatten());
        }
        result
    }
}

/// One worker, from its start to its end.
async fn employ(
    mut child: Child,
    job: Job,
    mut ordered: mpsc::Receiver<Order>,
    common: Arc<Common>,
    number: usize,
) -> Result<()> {
    let (input, output) = child.stdin.take().zip(child.stdout.take()).context("a worker has no pipes")?;
    let mut input = pipe::Sender::from_owned_fd(OwnedFd::from(input)).context("a worker takes no job")?;
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(output)).context("a worker can't be heard")?;
    let mut words = BufReader::new(output).lines();
    input.write_all(&line(&job)?).await.context("a worker takes no job")?;
    let mut over = false;
    loop {
        tokio::select! {
            word = words.next_line() => match word.context("a worker can't be heard")? {
                Some(word) => {
                    let word: Word = serde_json::from_str(&word).context("a worker makes no sense")?;
                    common.tally.hear(number, &word);
                }
                None => break,
            },
            Some(order) = ordered.recv() => {
                over |= matches!(order, Order::Over);
                input.write_all(&line(&order)?).await.context("a worker takes no orders")?;
            }
        }
    }
    // It closed its output, which is the last thing that it does.
    let waiting = tokio::task::spawn_blocking(move || child.wait());
    let status = waiting.await?.context("a worker can't be waited for")?;
    ensure!(
        over && status.success(),
        "a worker ended ({status}) before the run did: its figures are missing"
    );
    Ok(())
}

fn line(message: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message).context("can't write JSON")?;
    line.push(b'\n');
    Ok(line)
}

/// Works: the whole life of a worker's process.
///
/// # Errors
/// If the job makes no sense, or whoever gave it is gone.
pub async fn work() -> Result<()> {
    let mut output = pipe::Sender::from_owned_fd(std::io::stdout().as_fd().try_clone_to_owned()?)
        .context("this is started by `tidegate-loadtest agents` only")?;
    let input = pipe::Receiver::from_owned_fd(std::io::stdin().as_fd().try_clone_to_owned()?);
    let input = input.context("this is started by `tidegate-loadtest agents` only")?;
    let mut orders = BufReader::new(input).lines();
    let job = orders.next_line().await?.context("this is started by `tidegate-loadtest agents` only")?;
    let job: Job = serde_json::from_str(&job).context("the job makes no sense")?;
    let identities = job.identities.iter().map(|(authorization, instance)| {
        Ok(Identity { authorization: authorization.parse()?, instance: *instance })
    });
    let identities = identities.collect::<Result<Vec<_>>>()?;
    let common = Arc::new(job.cast.common(job.began.elapsed().context("the clock was set back")?)?);
    let mut company = Company::enter(&common, job.first, identities);
    let obeying = obey(&mut orders, &common, &company);
    let speaking = speak(&mut output, &common);
    tokio::select! {
        result = obeying => result?,
        result = speaking => return result,
    }
    company.end(&common).await;
    say(&mut output, &common).await
}

/// Follows orders until everybody is to go home.
async fn obey(
    orders: &mut Lines<BufReader<pipe::Receiver>>,
    common: &Common,
    company: &Company,
) -> Result<()> {
    while let Some(order) = orders.next_line().await? {
        match serde_json::from_str(&order).context("an order makes no sense")? {
            Order::Over => return Ok(()),
            order => company.obey(common, order),
        }
    }
    bail!("whoever gave the job is gone")
}

async fn speak(output: &mut pipe::Sender, common: &Common) -> Result<()> {
    let mut ticks = interval(WORDS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        say(output, common).await?;
    }
}

async fn say(output: &mut pipe::Sender, common: &Common) -> Result<()> {
    Ok(output.write_all(&line(&common.tally.word())?).await?)
}
