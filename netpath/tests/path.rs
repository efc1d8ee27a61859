//! A real path: two namespaces on this machine. Needs root and `/dev/net/tun`, and fails with what is missing.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use netpath::{Loss, Path, Weather};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const ROUND_TRIP: Duration = Duration::from_millis(40);
/// For anything that can't take long.
const DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of a transfer: some hundred packets.
const BULK: usize = 1024 * 1024;

fn lay(weather: Weather) -> Path {
    Path::lay(weather, 1).unwrap_or_else(|error| panic!("{error:#}"))
}

/// A stream from here to an echo at the far end.
async fn stream(path: &Path) -> TcpStream {
    let listener = path.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).expect("the far end can listen");
    let listener = TcpListener::from_std(listener).expect("it does not block");
    let address = SocketAddr::new(path.far(), listener.local_addr().expect("it has an address").port());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody comes");
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await.ok();
        to.shutdown().await.ok();
    });
    timeout(DEADLINE, TcpStream::connect(address)).await.expect("in time").expect("the far end is reached")
}

async fn echoed(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).await.expect("the stream takes it");
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).await.expect("it comes back");
    back
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_takes_the_round_trip_and_changed_weather_holds_at_once() {
    let path = lay(Weather::far(ROUND_TRIP, Loss::NONE));
    let mut stream = stream(&path).await;
    let begun = Instant::now();
    assert_eq!(echoed(&mut stream, b"hello").await, b"hello");
    assert!(begun.elapsed() >= ROUND_TRIP, "{:?}", begun.elapsed());

    path.change(Weather { loss: Loss::ALL, ..Weather::default() });
    assert!(timeout(ROUND_TRIP * 4, echoed(&mut stream, b"nobody")).await.is_err(), "nothing arrives");
    path.change(Weather::default());
    let mut late = [0; 6];
    timeout(DEADLINE, stream.read_exact(&mut late))
        .await
        .expect("it is sent again")
        .expect("the stream lives");
    assert_eq!(&late, b"nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_survive_loss_in_their_order_and_the_loss_is_counted() {
    let path = lay(Weather { loss: Loss::percent(2), ..Weather::default() });
    let stream = stream(&path).await;
    let (mut from, mut to) = stream.into_split();
    let sent: Vec<u8> = (0..BULK).map(|number| (number % 251) as u8).collect();
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        to.write_all(&sent).await.expect("the stream takes it");
        to
    });
    let mut back = vec![0; BULK];
    timeout(DEADLINE, from.read_exact(&mut back)).await.expect("in time").expect("all comes back");
    assert!(back == expected, "other bytes than were sent");
    drop(sending.await);
    let counts = path.counts();
    assert!(counts.iter().all(|count| count.lost > 0 && count.arrived > count.lost), "{counts:?}");
    assert!(counts[0].bytes > BULK as u64, "{counts:?}");
}

#[test]
fn nothing_is_left_of_a_path_that_was_dropped() {
    let path = lay(Weather::default());
    let near = path.near().to_string();
    let listed = || {
        let output = std::process::Command::new("ip").args(["-o", "address"]).output().expect("ip runs");
        String::from_utf8_lossy(&output.stdout).contains(&near)
    };
    assert!(listed());
    drop(path);
    assert!(!listed());
}
