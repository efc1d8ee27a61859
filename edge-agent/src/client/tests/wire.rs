//! What a check-in costs on the wire, and what of it is seen elsewhere.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// IPv4 without options, and TCP with time stamps (RFC 7323), as Linux sends it.
const PACKET: usize = 20 + 32;
/// The question, its answer (which acknowledges it), and the acknowledgement of that.
const PACKETS: usize = 3;
/// What is promised.
const MOST: usize = 270;

/// Passes bytes on and counts them.
async fn relay(target: HostPort, passed: Arc<AtomicUsize>) -> HostPort {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string().parse().expect("an address");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect((target.host.as_str(), target.port)).await.expect("it listens");
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            tokio::spawn(pass(from_near, to_far, Arc::clone(&passed)));
            tokio::spawn(pass(from_far, to_near, Arc::clone(&passed)));
        }
    });
    address
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    passed: Arc<AtomicUsize>,
) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        passed.fetch_add(count, Ordering::SeqCst);
        to.write_all(&bytes[..count]).await?;
    }
}

#[tokio::test]
async fn idle_check_in_over_http2_costs_243_bytes_with_tls_and_tcp_and_ip() {
    let (gateway, passed) = (FakeGateway::start_tls(&["h2"]).await, Arc::new(AtomicUsize::new(0)));
    let address = relay(gateway.address.clone(), Arc::clone(&passed)).await;
    let endpoint = endpoint(&format!("https://{address}"), gateway.pins.clone()).expect("a client");
    let mut client = Client::new(endpoint);
    let usual = Question { wait: Some(Duration::from_secs(50)), ..question(None) };
    // The first ones say hello, fill the tables and take in the session tickets of TLS.
    for _ in 0..3 {
        assert_eq!(client.check_in(&usual).await, NOTHING_NEW);
    }
    for _ in 0..100 {
        let before = passed.load(Ordering::SeqCst);
        assert_eq!(client.check_in(&usual).await, NOTHING_NEW);
        let cost = passed.load(Ordering::SeqCst) - before + PACKETS * PACKET;
        assert_eq!(cost, 243);
        assert!(cost <= MOST);
    }
}

/// Keeps all that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_of_any_level_shows_what_proves_the_edge() {
    let log = Log::default();
    let kept = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || kept.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    for gateway in [FakeGateway::start_tls(&["h2"]).await, FakeGateway::start().await] {
        let mut client = gateway.client();
        client.check_in(&question(None)).await;
        tracing::info!(?client, "as it is");
    }
    let logged = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text");
    assert!(logged.contains("h2::"), "the library below logs what it sends");
    let Authorization { edge_id, key } = identity().authorization;
    for secret in [edge_id.to_string(), key.expose().to_string()] {
        assert!(!logged.contains(&secret), "{logged}");
    }
}
