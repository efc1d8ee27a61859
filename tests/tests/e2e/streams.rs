//! One stream is a TCP connection by other means: both halves, resets and failures pass through truly.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use tempfile::TempDir;
use tests::bulk::{self, Pattern, moving};
use tests::fakes::http::Web;
use tests::fakes::tcp::{Tcp, UnixEcho, assert_echo};
use tests::site::{EDGE, Site};
use tests::wait::{SOON, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[tokio::test]
async fn half_close_by_the_operator_reaches_the_service_which_can_still_answer() {
    // Answers with length and checksum only once the operator has ended its half.
    let service = Tcp::start(|mut stream| async move {
        let (length, checksum) = bulk::receive(&mut stream).await?;
        stream.write_u64(length).await?;
        stream.write_all(&checksum).await?;
        stream.shutdown().await
    })
    .await;
    let site = Site::with("sum", service.address).await;
    let listen = site.listen("sum").await;
    let mut stream = listen.connect().await;
    let sent = bulk::send(Pattern::new(1, 300_000), &mut stream).await.expect("the stream takes it");
    stream.shutdown().await.expect("one half ends");
    assert_eq!(moving(stream.read_u64()).await.expect("an answer after the half-close"), 300_000);
    let mut checksum = Vec::new();
    moving(stream.read_to_end(&mut checksum)).await.expect("an orderly end");
    assert_eq!(checksum, sent);
}

#[tokio::test]
async fn half_close_by_the_service_reaches_the_operator_who_can_still_send() {
    let heard = Arc::new(Mutex::new(None));
    let hears = heard.clone();
    let service = Tcp::start(move |mut stream| {
        let hears = hears.clone();
        async move {
            bulk::send(Pattern::new(2, 300_000), &mut stream).await?;
            stream.shutdown().await?;
            let received = bulk::receive(&mut stream).await?;
            *hears.lock().expect("no holder of this lock panics") = Some(received);
            Ok(())
        }
    })
    .await;
    let site = Site::with("talker", service.address).await;
    let listen = site.listen("talker").await;
    let mut stream = listen.connect().await;
    let expected = bulk::checksum(Pattern::new(2, 300_000));
    assert_eq!(bulk::receive(&mut stream).await.expect("an orderly end"), (300_000, expected));
    let sent = bulk::send(Pattern::new(3, 300_000), &mut stream).await.expect("the other half is open");
    stream.shutdown().await.expect("it ends");
    let received = until(SOON, "the service hears the end", async || {
        heard.lock().expect("no holder of this lock panics").take()
    });
    assert_eq!(received.await, (300_000, sent));
}

#[tokio::test]
async fn reset_by_the_service_is_a_reset_for_the_operator() {
    let service = Tcp::start(|mut stream| async move {
        stream.read_u8().await?;
        stream.set_zero_linger()
    })
    .await;
    let site = Site::with("rude", service.address).await;
    let listen = site.listen("rude").await;
    let mut stream = listen.connect().await;
    stream.write_all(b"x").await.expect("it is open");
    let end = tokio::time::timeout(SOON, stream.read(&mut [0; 8])).await.expect("the stream ends");
    assert_eq!(end.expect_err("no orderly end").kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn reset_by_the_operator_is_a_reset_for_the_service() {
    let end = Arc::new(Mutex::new(None));
    let seen = end.clone();
    let service = Tcp::start(move |mut stream| {
        let seen = seen.clone();
        async move {
            stream.write_all(b"hello").await?;
            let result = stream.read(&mut [0; 8]).await.map_err(|error| error.kind());
            *seen.lock().expect("no holder of this lock panics") = Some(result);
            Ok(())
        }
    })
    .await;
    let site = Site::with("victim", service.address).await;
    let listen = site.listen("victim").await;
    let mut stream = listen.connect().await;
    moving(stream.read_exact(&mut [0; 5])).await.expect("its greeting");
    stream.set_zero_linger().expect("a TCP socket");
    drop(stream);
    let result = until(SOON, "the service sees the end", async || {
        end.lock().expect("no holder of this lock panics").take()
    });
    assert_eq!(result.await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn service_that_does_not_listen_is_named_with_the_reason() {
    let closed = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has free ports");
    let address = closed.local_addr().expect("it is bound");
    drop(closed);
    let site = Site::with("gone", address).await;
    let problem = site.get("gone", "/").await.problem(502);
    assert!(problem.detail.to_lowercase().contains("connection refused"), "{problem:?}");
    assert!(problem.detail.contains("gone"), "{problem:?}");

    let target = format!("{EDGE}/gone");
    let ended = tests::process::run(site.gateway.cli(&["connect", &target, "--stdio"])).await;
    assert_ne!(ended.code, 0);
    assert!(ended.stderr.to_lowercase().contains("connection refused"), "{ended:?}");
}

#[tokio::test]
async fn unix_socket_is_a_service_like_any_other() {
    let folder = TempDir::new().expect("the folder for temporary files is writable");
    let echo = UnixEcho::start(&folder.path().join("echo.sock"));
    let site = Site::start(&[("socket", &echo)]).await;
    let listen = site.listen("socket").await;
    let mut stream = listen.connect().await;
    assert_echo(&mut stream, b"through a unix socket").await;
    assert_echo(&mut stream, &bulk::bytes(4, 1_000_000)).await;
}

#[tokio::test]
async fn service_that_speaks_first_is_heard_without_a_word_from_the_operator() {
    let service = Tcp::start(|mut stream| async move {
        stream.write_all(b"220 ready\r\n").await?;
        stream.shutdown().await
    })
    .await;
    let site = Site::with("smtp", service.address).await;
    let mut greeting = String::new();
    let listen = site.listen("smtp").await;
    moving(listen.connect().await.read_to_string(&mut greeting)).await.expect("an orderly end");
    assert_eq!(greeting, "220 ready\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_short_streams_leave_nothing_behind() {
    let web = Web::start().await;
    let mut site = Site::start(&[("web", &web.url())]).await;
    let burst = async |site: &Site, count: usize| {
        futures_util::stream::iter(0..count)
            .for_each_concurrent(20, async |_| drop(site.get("web", "/hello").await.expect(200)))
            .await;
    };
    burst(&site, 300).await;
    let settled = |site: &mut Site| {
        let (gateway, agent) = (site.gateway.process(), site.agent.process());
        [(gateway.resident(), gateway.descriptors()), (agent.resident(), agent.descriptors())]
    };
    until(SOON, "the first streams are gone", async || {
        (site.gateway.admin.tunnel(EDGE).await.holds == 0).then_some(())
    })
    .await;
    let before = settled(&mut site);
    burst(&site, 3000).await;
    until(SOON, "every stream gave its sockets back", async || {
        let after = settled(&mut site);
        // A check-in that is just under way has a socket; so has the look at the tunnel's holds.
        let same = (0..2).all(|side| after[side].1 <= before[side].1 + 2);
        same.then_some(())
    })
    .await;
    for (side, (before, after)) in before.iter().zip(settled(&mut site)).enumerate() {
        let grown = after.0.saturating_sub(before.0);
        assert!(grown < 16 * 1024 * 1024, "side {side} grew by {grown} bytes over 3,000 streams");
    }
}
