//! Much data, and many streams, arrive whole.

use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use hyper::Method;
use sha2::{Digest as _, Sha256};
use tests::bulk::{self, GIB, Pattern, moving};
use tests::fakes::http::{Web, hex, pattern};
use tests::fakes::tcp::{Tcp, assert_echo};
use tests::site::Site;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A gibibyte in a debug build beside other tests took half a minute at worst.
const UPLOAD: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gibibyte_each_way_at_once_through_connect_keeps_its_checksum() {
    // Sends its own gibibyte while it reads the operator's, then says what it read.
    let service = Tcp::start(|stream| async move {
        let (mut from, mut to) = stream.into_split();
        let (sent, received) =
            tokio::join!(bulk::send(Pattern::new(1, GIB), &mut to), bulk::receive(&mut from));
        sent?;
        to.write_all(&received?.1).await?;
        to.shutdown().await
    })
    .await;
    let site = Site::with("disk", service.address).await;
    let listen = site.listen("disk").await;
    let (mut from, mut to) = listen.connect().await.into_split();
    let sending = async {
        let sent = bulk::send(Pattern::new(2, GIB), &mut to).await.expect("the stream takes it");
        to.shutdown().await.expect("the half ends in order");
        sent
    };
    let receiving = async {
        let mut down = (&mut from).take(GIB);
        let received = bulk::receive(&mut down).await.expect("a gibibyte comes");
        let mut report = Vec::new();
        moving(from.read_to_end(&mut report)).await.expect("an orderly end");
        (received, report)
    };
    let (sent, (received, report)) = tokio::join!(sending, receiving);
    assert_eq!(received, (GIB, bulk::checksum(Pattern::new(1, GIB))));
    assert_eq!(report, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gibibyte_up_and_gibibyte_down_through_the_proxy_keep_their_checksums() {
    let web = Web::start().await;
    let site = Site::start(&[("web", &web.url())]).await;
    let request = site.http().request(Method::POST, &site.proxy("web", "/checksum"));
    let request = request.body(pattern(Pattern::new(3, GIB))).expect("valid");
    let answer = tokio::time::timeout(UPLOAD, site.http().open(request)).await.expect("it is not stuck");
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), 200);
    let text = answer.into_body().collect().await.expect("a short body").to_bytes();
    assert_eq!(text, format!("{GIB} {}", hex(&bulk::checksum(Pattern::new(3, GIB)))));

    let path = site.proxy("web", &format!("/bytes/4/{GIB}"));
    let request = site.http().request(Method::GET, &path).body(tests::http::full("")).expect("valid");
    let mut body = site.http().open(request).await.expect("an answer").into_body();
    let (mut length, mut hasher) = (0, Sha256::new());
    while let Some(frame) = moving(async { Ok(body.frame().await) }).await.expect("it is not stuck") {
        let frame = frame.expect("the body ends in order");
        if let Some(data) = frame.data_ref() {
            length += data.len() as u64;
            hasher.update(data);
        }
    }
    assert_eq!(length, GIB);
    assert_eq!(hex(&hasher.finalize()), hex(&bulk::checksum(Pattern::new(4, GIB))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_streams_at_once_each_get_their_own_bytes() {
    const STREAMS: u8 = 200;
    let echo = Tcp::echo().await;
    let site = Site::with("echo", echo.address).await;
    let listen = site.listen("echo").await;
    let streams = join_all((0..STREAMS).map(|_| listen.connect())).await;
    let rounds = streams.into_iter().zip(0..STREAMS).map(|(mut stream, seed)| async move {
        assert_echo(&mut stream, &[seed; 100]).await;
        let (mut from, mut to) = stream.into_split();
        let sending = async {
            let sent =
                bulk::send(Pattern::new(seed, 256 * 1024), &mut to).await.expect("the stream takes it");
            to.shutdown().await.expect("the half ends in order");
            sent
        };
        let (sent, received) = tokio::join!(sending, bulk::receive(&mut from));
        assert_eq!(received.expect("an orderly end"), (256 * 1024, sent));
    });
    join_all(rounds).await;
    assert_eq!(echo.connections(), usize::from(STREAMS));
}

/// Both ends of an SSH connection that wait for each other to read hang for ever; eight such streams found it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_streams_full_both_ways_at_once_never_lock_up() {
    const STREAMS: u8 = 8;
    const LENGTH: u64 = 64 * 1024 * 1024;
    let service = Tcp::start(|stream| async move {
        let (mut from, mut to) = stream.into_split();
        let (sent, received) =
            tokio::join!(bulk::send(Pattern::new(1, LENGTH), &mut to), bulk::receive(&mut from));
        sent.and(received).map(drop)
    })
    .await;
    let site = Site::with("disk", service.address).await;
    let listen = site.listen("disk").await;
    let expected = bulk::checksum(Pattern::new(1, LENGTH));
    let streams = (0..STREAMS).map(async |seed| {
        let (mut from, mut to) = listen.connect().await.into_split();
        let sending = async {
            bulk::send(Pattern::new(seed, LENGTH), &mut to).await.expect("the stream takes it");
            to.shutdown().await.expect("the half ends in order");
        };
        let ((), received) = tokio::join!(sending, bulk::receive(&mut from));
        assert_eq!(received.expect("an orderly end"), (LENGTH, expected));
    });
    join_all(streams).await;
}
