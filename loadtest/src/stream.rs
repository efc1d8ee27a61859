//! One connection from the operator's end: onto the way, the order, and the service's word that it is there.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bench::Entry;
use crate::service::{Order, YES};

/// Longest wait for a stream to open, or for a small answer: thousands of times what it takes when all is well.
pub const ANSWER: Duration = Duration::from_secs(10);
/// Largest head of the gateway's answer to an upgrade.
const MAX_HEAD: usize = 4096;

/// A stream to the service, which has taken the order.
///
/// # Errors
/// If the way is shut, or the service's word does not come in time.
pub async fn open(entry: &Entry, order: Order) -> Result<TcpStream> {
    let opening = async {
        let mut stream = enter(entry).await?;
        stream.write_all(&order.encode()).await.context("the order can't be sent")?;
        let word = stream.read_u8().await.context("the service does not answer")?;
        ensure!(word == YES, "something else than the service answers");
        Ok(stream)
    };
    timeout(ANSWER, opening).await.context("the stream did not open in time").flatten()
}

async fn enter(entry: &Entry) -> Result<TcpStream> {
    let (address, request) = match entry {
        Entry::Port(address) => (address, None),
        Entry::Upgrade(address, request) => (address, Some(request)),
    };
    let mut stream = TcpStream::connect(address).await.context("the way is shut")?;
    stream.set_nodelay(true)?;
    if let Some(request) = request {
        stream.write_all(request.expose().as_bytes()).await?;
        upgraded(&mut stream).await?;
    }
    Ok(stream)
}

/// Reads the answer to the upgrade. The service speaks only when spoken to, so nothing of it can follow the head.
async fn upgraded(stream: &mut TcpStream) -> Result<()> {
    let mut head = Vec::with_capacity(MAX_HEAD);
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < MAX_HEAD, "the gateway's answer has a head without an end");
        if stream.read_buf(&mut head).await? == 0 {
            bail!("the gateway hung up: {}", String::from_utf8_lossy(&head));
        }
        ensure!(
            head.len() < 12 || head.starts_with(b"HTTP/1.1 101"),
            "the gateway refused the stream: {}",
            first_line(&head)
        );
    }
    Ok(())
}

fn first_line(head: &[u8]) -> String {
    String::from_utf8_lossy(head).lines().next().unwrap_or_default().to_owned()
}

/// Whether the stream is at its end.
///
/// # Errors
/// Those of the stream; `InvalidData` if there is more.
pub async fn ends(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 1]).await? {
        0 => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes than were sent")),
    }
}
