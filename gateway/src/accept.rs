//! Accepting connections, also while the system has nothing left to accept them with: files, memory.
//!
//! The rule: no failure ends a listener, and none fills the log, however long it lasts. What waits in the kernel's queue
//! meanwhile is accepted when there is room again.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::{debug, info, warn};

/// Pause after a failed accept: long enough not to spin, short enough not to be noticed.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How often the log says that it goes on.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// A listener that goes on.
#[derive(Debug)]
pub struct Accepting {
    listener: TcpListener,
    /// For the log.
    port: &'static str,
    failing: Option<Failing>,
}

/// Since when nothing could be accepted.
#[derive(Debug)]
struct Failing {
    since: Instant,
    said: Instant,
}

impl Accepting {
    /// On this listener.
    pub fn on(listener: TcpListener, port: &'static str) -> Self {
        Self { listener, port, failing: None }
    }

    /// The next connection. Dropping the future loses none.
    pub async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => {
                    self.works();
                    return accepted;
                }
                Err(error) if is_about_the_peer(&error) => {
                    debug!(port = self.port, %error, "a connection ended before it was accepted");
                }
                Err(error) => {
                    self.fails(&error);
                    sleep(BACK_OFF).await;
                }
            }
        }
    }

    fn fails(&mut self, error: &io::Error) {
        let now = Instant::now();
        let failing = self.failing.get_or_insert(Failing { since: now, said: now });
        if failing.since == now || now.duration_since(failing.said) >= SAID_AGAIN {
            failing.said = now;
            warn!(port = self.port, %error, "no connections can be accepted; those that are open go on");
        }
    }

    fn works(&mut self) {
        if let Some(failing) = self.failing.take() {
            let elapsed_s = failing.since.elapsed().as_secs();
            info!(port = self.port, elapsed_s, "connections are accepted again");
        }
    }
}

/// It left already: no reason to pause.
fn is_about_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_is_said_once_and_so_is_its_end() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has free ports");
        let address = listener.local_addr().expect("it has one");
        let mut accepting = Accepting::on(listener, "test");
        let error = io::Error::other("too many open files");
        accepting.fails(&error);
        let said = accepting.failing.as_ref().expect("it fails").said;
        accepting.fails(&error);
        assert_eq!(
            accepting.failing.as_ref().expect("it fails").said,
            said,
            "within a minute it is said once"
        );
        let _peer = TcpStream::connect(address).await.expect("it listens");
        accepting.next().await;
        assert!(accepting.failing.is_none(), "it works again");
    }
}
