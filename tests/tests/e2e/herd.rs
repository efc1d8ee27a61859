//! Hundreds of tunnels that fall idle in the same moment: all close, each with its snapshot, within a minute, and the
//! gateway's memory stays bounded. The agents are real ones inside this process.
//!
//! `TIDEGATE_TEST_HERD` is their number. Each has four open files in this process (lock, status socket, check-ins, tunnel)
//! and some more while it sends its snapshot: 20,000 are enough for 4,000 agents, of which many then have to send again.
//! 5,000 fit too where `TMPDIR` is too long for a socket's path, so that there are no status sockets.

use std::time::{Duration, Instant};

use edge_agent::config::Config;
use futures_util::StreamExt as _;
use futures_util::stream;
use shared::wire::admin::{EdgeStatus, Settings, TunnelState};
use tempfile::TempDir;
use tests::fakes::http::Web;
use tests::gateway::Gateway;
use tests::setting::setting;
use tests::wait::until;
use tokio_util::sync::CancellationToken;

const HERD: usize = 500;
/// All are closed within this.
const CLOSED: Duration = Duration::from_secs(60);
/// A login in a debug build on a shared core takes tens of milliseconds.
const GATHERED: Duration = Duration::from_secs(600);
/// Requests of this test at a time.
const AT_A_TIME: usize = 64;
/// The shortest idle time there is, and a check-in interval that this process can serve for all of them.
const IDLE_S: u32 = 10;
const INTERVAL_S: u32 = 5;
/// Beside 64 MiB, what a tunnel may cost the gateway at its worst moment: the tunnel, a TLS connection for check-ins and
/// one for a snapshot that is being stored.
const BYTES_EACH: usize = 256 * 1024;

fn name(number: usize) -> String {
    format!("e{number}")
}

/// Starts one agent in this process; it ends with `stop`.
async fn start(gateway: &Gateway, web: &Web, folder: &TempDir, number: usize, stop: &CancellationToken) {
    let edge = gateway.admin.create_with(&name(number), |edge| edge.interval_s = Some(INTERVAL_S)).await;
    let config = Config {
        join_token: Some(edge.join_token.parse().expect("the gateway makes good tokens")),
        edge_id: None,
        data_dir: folder.path().join(name(number)),
        services: vec![format!("web={}", web.url()).parse().expect("a service")],
        page_addr: ([127, 0, 0, 1], 0).into(),
        ca_file: None,
        log: String::new(),
        json: false,
    };
    tokio::spawn(edge_agent::agent::run(config, stop.clone()));
}

/// Most memory that a process ever had.
fn peak_memory(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

async fn count(gateway: &Gateway, state: TunnelState) -> usize {
    gateway.admin.edges().await.iter().filter(|edge| edge.tunnel.state == state).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_that_fall_idle_together_all_close_with_their_snapshots_within_a_minute() {
    let herd = setting("TIDEGATE_TEST_HERD").unwrap_or(HERD);
    let (mut gateway, web) = (Gateway::start().await, Web::start().await);
    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let stop = CancellationToken::new();
    let _stopped_at_the_end = stop.clone().drop_guard();
    let each = || stream::iter(0..herd);
    each()
        .for_each_concurrent(AT_A_TIME, async |number| start(&gateway, &web, &folder, number, &stop).await)
        .await;
    until(GATHERED, "all check in", async || {
        let edges = gateway.admin.edges().await;
        edges.iter().all(|edge| edge.status == EdgeStatus::Online).then_some(())
    })
    .await;
    let opened = Instant::now();
    each()
        .for_each_concurrent(AT_A_TIME, async |number| {
            let path = Gateway::proxy_path(&name(number), "web", "/hello");
            gateway.admin.get(&path).await.expect(200);
        })
        .await;
    let open = count(&gateway, TunnelState::Open).await;
    println!("{open} tunnels are open after {:?}", opened.elapsed());
    assert_eq!(open, herd, "none is idle yet");

    // Their idle time was minutes; now it is seconds, for all at once, and for most it is over.
    let idle_timeout_s = Some(IDLE_S);
    gateway.admin.set(Settings { idle_timeout_s, ..Settings::default() }).await;
    let since = Instant::now();
    let within = CLOSED + Duration::from_secs(IDLE_S.into());
    until(within, "all are closed", async || {
        (count(&gateway, TunnelState::Idle).await == herd).then_some(())
    })
    .await;
    println!("{herd} tunnels closed within {:?} of the moment at which they were told", since.elapsed());
    let without = each()
        .filter_map(async |number| gateway.admin.snapshot(&name(number)).await.is_none().then_some(number))
        .collect::<Vec<_>>()
        .await;
    assert!(without.is_empty(), "no snapshot of {without:?}");
    let peak = peak_memory(gateway.process().pid());
    println!("the gateway had {} MiB at most", peak / 1024 / 1024);
    assert!(peak < 64 * 1024 * 1024 + herd * BYTES_EACH, "{peak} bytes");
}
