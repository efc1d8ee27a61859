//! Gateway and agent killed with -9 at random moments under real clients, and the account at the end: what was
//! acknowledged is there, every request had an answer or an error in bounded time, and everything works.
//!
//! Half a minute by default; `TIDEGATE_TEST_KILL_SECONDS` and `TIDEGATE_TEST_KILL_SEED` make it longer or repeat it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tests::fakes::http::Web;
use tests::gateway::Gateway;
use tests::process::run;
use tests::setting::setting;
use tests::site::{EDGE, Site};
use tests::tool;
use tests::wait::{SOON, until};

use crate::postgres::Postgres;

const LASTS: u64 = 30;
/// Longest pause between two kills: long enough for work to get done, and short enough to hit openings and restarts.
const PAUSE: Duration = Duration::from_secs(3);
/// A request waits for a tunnel for two intervals and ten seconds, and a restart of the gateway takes a moment.
const BOUNDED: Duration = Duration::from_secs(30);

/// What a client went through.
#[derive(Debug, Default)]
struct Account {
    done: usize,
    refused: usize,
    slowest: Duration,
}

impl Account {
    fn note(&mut self, done: bool, since: Instant) {
        *(if done { &mut self.done } else { &mut self.refused }) += 1;
        self.slowest = self.slowest.max(since.elapsed());
    }
}

/// Where `curl` goes, also while the gateway is dead.
struct Curl {
    url: String,
    header: PathBuf,
}

impl Curl {
    fn new(gateway: &Gateway) -> Self {
        let token = std::fs::read_to_string(gateway.folder().join("token")).expect("written at its start");
        // Not as an argument: those are for everybody to see.
        let header = gateway.folder().join("header");
        std::fs::write(&header, format!("authorization: Bearer {}\n", token.trim())).expect("ours");
        let url = format!("https://{}{}", gateway.api(), Gateway::proxy_path(EDGE, "web", "/hello"));
        Self { url, header }
    }

    /// Whether the answer came. Anything else must be an error that says so.
    async fn ask(&self) -> bool {
        let mut command = tool::command("curl", "curl");
        command.args([
            "--silent",
            "--insecure",
            "--noproxy",
            "*",
            "--max-time",
            &BOUNDED.as_secs().to_string(),
        ]);
        command.arg("--header").arg(format!("@{}", self.header.display()));
        let ended = run({
            command.args(["--write-out", " %{http_code}", &self.url]);
            command
        })
        .await;
        assert_ne!(ended.code, 28, "curl ran into its time limit: {ended:?}");
        let answered = ended.code == 0 && ended.stdout == "hello 200";
        let honest = ended.code != 0 || [" 502", " 503", " 504"].iter().any(|c| ended.stdout.ends_with(c));
        assert!(answered || honest, "neither the answer nor an error: {ended:?}");
        answered
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_both_sides_are_killed_at_random() {
    let seed = setting("TIDEGATE_TEST_KILL_SEED").unwrap_or_else(rand::random);
    let lasts = Duration::from_secs(setting("TIDEGATE_TEST_KILL_SECONDS").unwrap_or(LASTS));
    println!("TIDEGATE_TEST_KILL_SEED={seed}");
    let (postgres, web) = (Postgres::start().await, Web::start().await);
    let mut site = Site::start(&[("db", &postgres.address), ("web", &web.url())]).await;
    let curl = Curl::new(&site.gateway);
    let listen = site.listen("db").await;
    run(postgres.psql(listen.address, "CREATE TABLE item (id bigint PRIMARY KEY)")).await.ok();

    let over = AtomicBool::new(false);
    let killing = async {
        let (mut random, started) = (StdRng::seed_from_u64(seed), Instant::now());
        let (mut gateways, mut agents) = (0, 0);
        while started.elapsed() < lasts {
            // A random moment is the point; nothing is waited for.
            tokio::time::sleep(PAUSE.mul_f64(random.random_range(0.0..1.0))).await;
            if random.random_bool(0.5) {
                site.gateway.kill_and_resume().await;
                gateways += 1;
            } else {
                site.agent.kill_and_resume();
                agents += 1;
            }
        }
        over.store(true, Ordering::Relaxed);
        (gateways, agents)
    };
    let asking = async {
        let mut account = Account::default();
        while !over.load(Ordering::Relaxed) {
            let since = Instant::now();
            account.note(curl.ask().await, since);
        }
        account
    };
    let writing = async {
        let (mut account, mut acknowledged) = (Account::default(), BTreeSet::new());
        for id in 0u64.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let since = Instant::now();
            let insert = format!("INSERT INTO item VALUES ({id})");
            let done = run(postgres.psql(listen.address, &insert)).await.code == 0;
            account.note(done, since);
            if done {
                acknowledged.insert(id);
            }
        }
        (account, acknowledged)
    };
    let ((gateways, agents), asked, (written, acknowledged)) = tokio::join!(killing, asking, writing);
    println!("killed: gateway {gateways} times, agent {agents} times; curl: {asked:?}; psql: {written:?}");
    assert!(asked.slowest < BOUNDED && written.slowest < BOUNDED, "somebody waited without end");
    assert!(asked.done > 0 && written.done > 0, "no work got done: the account proves nothing");

    until(SOON, "curl gets its answer", async || curl.ask().await.then_some(())).await;
    let all = until(SOON, "psql gets its answer", async || {
        let ended = run(postgres.psql(listen.address, "SELECT id FROM item")).await;
        (ended.code == 0).then_some(ended.stdout)
    })
    .await;
    let stored: BTreeSet<u64> = all.lines().map(|line| line.parse().expect("a number")).collect();
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    println!("acknowledged {}, stored {}, lost none", acknowledged.len(), stored.len());
}
