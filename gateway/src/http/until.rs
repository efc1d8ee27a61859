//! A stream that ends with the right to it: when what its operator came with is revoked, or allows something else, it
//! is cut, as it would be if the other side had reset it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use shared::tunnel::carry::Local;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::access::{Access, Operator};

/// Something to read from and write to for as long as an operator may.
pub struct Until<I> {
    io: I,
    /// `None` once it has come.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<I> Until<I> {
    /// `io` for as long as `operator` may what they may now.
    pub fn ended(io: I, operator: &Operator, access: &Access) -> Self {
        let (operator, access) = (operator.clone(), access.clone());
        let end = async move {
            let ending = access.ended(&operator).await;
            tracing::info!(operator = %operator.name, reason = ending.reason(), "cut a stream");
        };
        Self { io, end: Some(Box::pin(end)) }
    }

    /// An error once the end has come. Asked before every read and write, so that it wakes whoever waits for either.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_pending()
        {
            return Ok(());
        }
        self.end = None;
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl<I: Local> Local for Until<I> {
    fn reset(&mut self) {
        self.io.reset();
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Until<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Until<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn bytes_pass_until_the_end_and_whoever_waits_hears_of_it() {
        let (near, mut far) = duplex(64);
        let (end, ended) = oneshot::channel::<()>();
        let mut near = Until { io: near, end: Some(Box::pin(async move { drop(ended.await) })) };
        near.write_all(b"ping").await.expect("it goes on");
        let mut read = [0; 4];
        far.read_exact(&mut read).await.expect("it goes on");
        assert_eq!(&read, b"ping");
        let waiting = tokio::spawn(async move {
            let read = near.read_u8().await.map_err(|error| error.kind());
            (read, near.write_all(b"more").await.map_err(|error| error.kind()))
        });
        tokio::task::yield_now().await;
        end.send(()).expect("it waits");
        let reset = io::ErrorKind::ConnectionReset;
        assert_eq!(waiting.await.expect("no panic"), (Err(reset), Err(reset)));
        assert!(far.read_u8().await.is_err(), "nothing more came");
    }
}
