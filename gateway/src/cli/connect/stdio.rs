//! Standard input and output as one end of a stream.
//!
//! Both are read and written on threads of their own: making them non-blocking would change them for every process that
//! shares them, the operator's shell included. A read that is under way when the stream ends is left behind, so the
//! process must not wait for its threads.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::stdio::dup2_stdout;
use shared::tunnel::carry::Local;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Standard input and output of this process.
#[derive(Debug)]
pub(super) struct Stdio {
    input: File,
    /// `None` once it is closed.
    output: Option<File>,
}

impl Stdio {
    /// Both ends as the process was given them, past the standard library's buffers, which are made for lines.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { input: duplicate(io::stdin())?, output: Some(duplicate(io::stdout())?) })
    }

    fn output(&mut self) -> io::Result<&mut File> {
        self.output.as_mut().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

fn duplicate(stream: impl AsFd) -> io::Result<File> {
    Ok(File::from_std(stream.as_fd().try_clone_to_owned()?.into()))
}

impl Local for Stdio {
    /// Pipes know no reset: the exit code tells.
    fn reset(&mut self) {}
}

impl AsyncRead for Stdio {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().input).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().output()?).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().output {
            Some(output) => Pin::new(output).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Lets go of standard output, so that its reader sees the end while standard input is still carried.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        if self.output.take().is_some() {
            dup2_stdout(std::fs::File::options().write(true).open("/dev/null")?)?;
        }
        Poll::Ready(Ok(()))
    }
}
