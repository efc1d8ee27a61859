//! Services behind an edge, each on a free loopback port or a unix socket, gone when dropped.

pub mod http;
pub mod tcp;

use tokio::task::JoinHandle;

/// A task that ends with its owner.
#[derive(Debug)]
pub struct Task(pub JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
