//! The service behind the tunnel, and what a connection asks of it.
//!
//! A connection begins with an [`Order`], and the service answers with one byte: from then on the whole way is open.
//! [`Work::Echo`] sends back what comes. [`Work::Send`] waits for a byte and sends the pattern, then ends. For
//! [`Work::Receive`] the service compares what comes with the pattern and ends with one byte when all of it was right.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::pattern::Pattern;

/// What the service says when an order has arrived, and when all bytes were right.
pub const YES: u8 = b'!';
/// Bytes of an order on the wire.
const ORDER: usize = 17;
/// Bytes echoed at a time: a request of the latency measurement is much smaller.
const ECHO_BUFFER: usize = 16 * 1024;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Everything back.
    Echo,
    /// The pattern, to the client.
    Send,
    /// The pattern, from the client.
    Receive,
}

/// The head of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What it is for.
    pub work: Work,
    /// Where in the pattern it begins.
    pub start: u64,
    /// Bytes of the pattern.
    pub length: u64,
}

impl Order {
    /// As it goes over the wire.
    pub fn encode(self) -> [u8; ORDER] {
        let mut bytes = [0; ORDER];
        bytes[0] = match self.work {
            Work::Echo => b'E',
            Work::Send => b'S',
            Work::Receive => b'R',
        };
        bytes[1..9].copy_from_slice(&self.start.to_be_bytes());
        bytes[9..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    fn decode(bytes: [u8; ORDER]) -> Option<Self> {
        let work = match bytes[0] {
            b'E' => Work::Echo,
            b'S' => Work::Send,
            b'R' => Work::Receive,
            _ => return None,
        };
        let number = |from: usize| {
            u64::from_be_bytes(bytes[from..from + 8].try_into().expect("eight bytes are eight bytes"))
        };
        Some(Self { work, start: number(1), length: number(9) })
    }
}

/// A running service. It ends when it is dropped.
#[derive(Debug)]
pub struct Service {
    /// Where it listens.
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Service {
    /// Serves whoever comes to `listener`, which does not block.
    ///
    /// # Errors
    /// If the runtime does not take it.
    pub fn start(listener: std::net::TcpListener, pattern: Pattern) -> io::Result<Self> {
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            // The harness opens a bounded number of connections, so these tasks are bounded as well.
            while let Ok((stream, _)) = listener.accept().await {
                let pattern = pattern.clone();
                // The client counts what fails, by what it gets or does not get.
                tokio::spawn(async move {
                    stream.set_nodelay(true)?;
                    serve(stream, &pattern).await
                });
            }
        });
        Ok(Self { address, accepting })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One connection, from its order to its end.
///
/// # Errors
/// Those of the stream; `InvalidData` for an order that is none, and for bytes that are not those of the pattern.
pub async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, pattern: &Pattern) -> io::Result<()> {
    let mut head = [0; ORDER];
    stream.read_exact(&mut head).await?;
    let order = Order::decode(head).ok_or(io::ErrorKind::InvalidData)?;
    stream.write_all(&[YES]).await?;
    match order.work {
        Work::Echo => echo(&mut stream).await?,
        Work::Send => {
            stream.read_u8().await?;
            pattern.send(&mut stream, order.start, order.length).await?;
        }
        Work::Receive => {
            pattern.receive(&mut stream, order.start, order.length).await?;
            stream.write_all(&[YES]).await?;
        }
    }
    stream.shutdown().await
}

async fn echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let mut buffer = [0; ECHO_BUFFER];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_the_wire_and_strangers_are_refused() {
        for work in [Work::Echo, Work::Send, Work::Receive] {
            let order = Order { work, start: 1, length: u64::MAX - 1 };
            assert_eq!(Order::decode(order.encode()), Some(order));
        }
        assert_eq!(Order::decode([b'x'; ORDER]), None);
    }
}
