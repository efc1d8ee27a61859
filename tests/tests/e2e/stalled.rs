//! A reader that stops costs its own window of memory and slows nothing else, in either direction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shared::wire::admin::TunnelState;
use tests::bulk;
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::site::{EDGE, Site};
use tests::wait::until;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Longer than a tunnel lives without an answered keep-alive: 15 s, three missed.
const STALL: Duration = Duration::from_secs(65);
/// Two stalled streams with their windows (64 messages of 32 KiB, twice), and room for what else a process does.
const MEMORY: u64 = (2 * 4 + 16) * 1024 * 1024;
/// Two looks at a counter this far apart see the same if nothing moves.
const STILL: Duration = Duration::from_secs(1);
const FILL: Duration = Duration::from_secs(60);

/// Waits until `count` has moved and then stands still.
async fn stands_still(what: &str, count: &AtomicU64) -> u64 {
    let mut last = (0, Instant::now());
    until(FILL, what, async || {
        let now = count.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
        (now > 0 && last.1.elapsed() >= STILL).then_some(now)
    })
    .await
}

/// Bulk and small messages both ways on a stream beside the stalled ones.
async fn is_lively(stream: &mut TcpStream) {
    for _ in 0..20 {
        let start = Instant::now();
        assert_echo(stream, b"ping").await;
        assert!(start.elapsed() < Duration::from_secs(5), "a ping took {:?}", start.elapsed());
    }
    assert_echo(stream, &bulk::bytes(5, 256 * 1024)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_readers_on_both_sides_slow_no_other_stream_and_no_keep_alive() {
    let flooded = Arc::new(AtomicU64::new(0));
    let services = (Tcp::flood(flooded.clone()).await, Tcp::sink().await, Tcp::echo().await);
    let mut site = Site::start(&[("flood", &services.0), ("sink", &services.1), ("echo", &services.2)]).await;
    let echo = site.listen("echo").await;
    let mut live = echo.connect().await;
    is_lively(&mut live).await;
    let before = (site.gateway.process().resident(), site.agent.process().resident());
    let since = site.gateway.admin.tunnel(EDGE).await.since;

    // The operator stops reading, the service would send for ever.
    let flood = site.listen("flood").await;
    let down = flood.connect().await;
    let received = stands_still("the flood is held back", &flooded).await;
    // The service stops reading, the operator would send for ever.
    let sink = site.listen("sink").await;
    let mut up = sink.connect().await;
    let sent = Arc::new(AtomicU64::new(0));
    let counter = sent.clone();
    let sending = tokio::spawn(async move {
        let block = vec![9; 64 * 1024];
        while let Ok(count) = up.write(&block).await {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        }
    });
    stands_still("the operator's flood is held back", &sent).await;
    let during = (site.gateway.process().resident(), site.agent.process().resident());
    for (who, before, during) in [("gateway", before.0, during.0), ("agent", before.1, during.1)] {
        let grown = during.saturating_sub(before);
        assert!(grown < MEMORY, "the {who} grew by {grown} bytes for two stalled streams");
    }

    let seen = site.gateway.admin.edge(EDGE).await.last_seen;
    let end = Instant::now() + STALL;
    while Instant::now() < end {
        is_lively(&mut live).await;
    }
    assert_ne!(site.gateway.admin.edge(EDGE).await.last_seen, seen, "check-ins go on beside stalled streams");
    let tunnel = site.gateway.admin.tunnel(EDGE).await;
    assert_eq!((tunnel.state, tunnel.since), (TunnelState::Open, since), "it is still the same tunnel");
    assert_eq!(flooded.load(Ordering::Relaxed), received, "nothing was taken from the flood meanwhile");
    sending.abort();
    drop(down);
}
