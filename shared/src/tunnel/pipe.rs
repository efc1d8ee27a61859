//! A stream as something to read from and write to, for code that wants an `AsyncRead + AsyncWrite` of its own: an HTTP
//! client, say. One end is carried ([`super::carry::Local`]), the other is used; a reset passes as an error.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::carry::Local;

/// Bytes that wait in each direction. Two messages: enough to keep both sides busy, little for an idle request.
const CAPACITY: usize = 64 * 1024;

/// Two ends; what is written to one is read from the other.
pub fn pipe() -> (CarriedEnd, UserEnd) {
    let (carried, user) = tokio::io::duplex(CAPACITY);
    let reset = Arc::new(AtomicBool::new(false));
    (CarriedEnd { io: carried, reset: Arc::clone(&reset) }, UserEnd { io: user, reset })
}

/// The end that a stream is carried to.
#[derive(Debug)]
pub struct CarriedEnd {
    io: DuplexStream,
    reset: Arc<AtomicBool>,
}

impl Local for CarriedEnd {
    fn reset(&mut self) {
        self.reset.store(true, Relaxed);
    }
}

/// The end that is read and written. After a reset of the other one, reading fails with `ConnectionReset` where it
/// would have shown an orderly end.
#[derive(Debug)]
pub struct UserEnd {
    io: DuplexStream,
    reset: Arc<AtomicBool>,
}

impl AsyncRead for UserEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() == before && self.reset.load(Relaxed) => {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            other => other,
        }
    }
}

impl AsyncRead for CarriedEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

macro_rules! write_through {
    ($end:ty) => {
        impl AsyncWrite for $end {
            fn poll_write(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.io).poll_write(cx, bytes)
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.io).poll_flush(cx)
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.io).poll_shutdown(cx)
            }
        }
    };
}
write_through!(CarriedEnd);
write_through!(UserEnd);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn an_orderly_end_and_a_reset_look_different() {
        for reset in [false, true] {
            let (mut carried, mut user) = pipe();
            carried.write_all(b"part").await.expect("room");
            if reset {
                carried.reset();
            }
            drop(carried);
            let mut all = Vec::new();
            let result = user.read_to_end(&mut all).await;
            assert_eq!(all, b"part");
            assert_eq!(
                result.map_err(|error| error.kind()).err(),
                reset.then_some(io::ErrorKind::ConnectionReset)
            );
        }
    }
}
