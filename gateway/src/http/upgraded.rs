//! The client's end of an upgraded request: the connection itself where it is one of our listener, so that a reset can
//! be passed on as one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use shared::tunnel::carry::Local;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Connection;

/// What an operator's program holds at its end of a stream, seen from here.
#[derive(Debug)]
pub enum ClientEnd {
    /// A connection of our listener, and what was read from it already.
    Connection {
        /// Comes before what is still to be read.
        read_ahead: Bytes,
        /// The socket, with or without TLS.
        connection: Connection,
    },
    /// Any other, as in tests.
    Other(TokioIo<Upgraded>),
}

impl From<Upgraded> for ClientEnd {
    fn from(upgraded: Upgraded) -> Self {
        match Connection::from_upgraded(upgraded) {
            Ok((connection, read_ahead)) => Self::Connection { read_ahead, connection },
            Err(upgraded) => Self::Other(TokioIo::new(upgraded)),
        }
    }
}

impl Local for ClientEnd {
    fn reset(&mut self) {
        match self {
            Self::Connection { connection, .. } => connection.reset(),
            // The drop is all there is.
            Self::Other(_) => {}
        }
    }
}

impl AsyncRead for ClientEnd {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Connection { read_ahead, .. } if read_ahead.has_remaining() => {
                let taken = read_ahead.split_to(read_ahead.len().min(buf.remaining()));
                buf.put_slice(&taken);
                Poll::Ready(Ok(()))
            }
            Self::Connection { connection, .. } => Pin::new(connection).poll_read(cx, buf),
            Self::Other(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ClientEnd {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Connection { connection, .. } => Pin::new(connection).poll_write(cx, bytes),
            Self::Other(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Connection { connection, .. } => Pin::new(connection).poll_write_vectored(cx, slices),
            Self::Other(io) => Pin::new(io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Connection { connection, .. } => connection.is_write_vectored(),
            Self::Other(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Connection { connection, .. } => Pin::new(connection).poll_flush(cx),
            Self::Other(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Connection { connection, .. } => Pin::new(connection).poll_shutdown(cx),
            Self::Other(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
