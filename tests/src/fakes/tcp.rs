//! Services that speak plain bytes.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use super::Task;
use crate::bulk::moving;

/// A service on a free loopback port.
#[derive(Debug)]
pub struct Tcp {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _task: Task,
}

impl Tcp {
    /// Serves each connection with `serve`; its error ends the connection only.
    pub async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, connections, _task: Task(task) }
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Sends everything back, and ends when the peer does.
    pub async fn echo() -> Self {
        Self::start(echo).await
    }

    /// Never reads a byte, never closes.
    pub async fn sink() -> Self {
        Self::start(|stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
            Ok(())
        })
        .await
    }

    /// Sends without end; `sent` counts the bytes that the socket took.
    pub async fn flood(sent: Arc<AtomicU64>) -> Self {
        Self::start(move |mut stream| {
            let sent = sent.clone();
            async move {
                let block = vec![7; 64 * 1024];
                loop {
                    let count = stream.write(&block).await?;
                    sent.fetch_add(count as u64, Ordering::Relaxed);
                }
            }
        })
        .await
    }
}

impl std::fmt::Display for Tcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

/// Sends everything back, and ends when the peer does.
pub async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

/// An echo on a unix socket.
#[derive(Debug)]
pub struct UnixEcho {
    path: PathBuf,
    _task: Task,
}

impl UnixEcho {
    /// Listens at `path`.
    pub fn start(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a fresh folder has no such socket yet");
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream));
            }
        });
        Self { path: path.to_owned(), _task: Task(task) }
    }
}

impl std::fmt::Display for UnixEcho {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unix://{}", self.path.display())
    }
}

/// Sends `message` and expects it back.
///
/// # Panics
/// If something else comes back, or nothing in a minute.
pub async fn assert_echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), message: &[u8]) {
    moving(stream.write_all(message)).await.expect("the stream takes it");
    moving(stream.flush()).await.expect("the stream takes it");
    let mut answer = vec![0; message.len()];
    moving(stream.read_exact(&mut answer)).await.expect("the echo comes back whole");
    assert!(answer == message, "the echo of {} bytes differs from what was sent", message.len());
}
