//! What the two ends of a tunnel tell each other beside the streams: one JSON object a line, on a channel of its own.
//!
//! The agent asks to forward [`super::ssh::CONTROL_NAME`] after its services; the gateway opens a channel to it and
//! greets with [`ToAgent::Welcome`]. From then on streams carry credit. When either side closes the channel, the
//! tunnel is over.
//!
//! Closing is agreed, so that no stream is lost in it: the agent asks ([`FromAgent::Closing`]), the gateway either
//! grants it, and opens no stream from that moment on, or refuses because somebody came back.

use std::io;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

/// Longest message, in bytes. Ours have fewer than 200.
const MAX_LINE: u64 = 4096;

/// From the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToAgent {
    /// The tunnel is open, or its idle time changed.
    Welcome {
        /// Seconds without a byte, a stream or a hold after which the agent closes.
        idle_timeout_s: u32,
    },
    /// Somebody is working, though no byte may flow. Said at least every minute while it is so.
    Hold,
    /// Take a snapshot now.
    Snapshot,
    /// Answer to [`FromAgent::Closing`]: no stream will be opened any more; disconnect.
    CloseGranted,
    /// Answer to [`FromAgent::Closing`]: somebody needs the tunnel; stay.
    CloseRefused,
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromAgent {
    /// The tunnel is idle and its snapshot is stored or given up; may it close?
    Closing,
}

/// Why no message could be read.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The channel failed.
    #[error("the control channel failed")]
    Channel(#[from] io::Error),
    /// The peer said something that is no message.
    #[error("a control message could not be understood")]
    Malformed(#[from] serde_json::Error),
    /// The peer said too much at once.
    #[error("a control message is longer than {MAX_LINE} bytes")]
    TooLong,
}

/// Reads messages.
#[derive(Debug)]
pub struct ControlReader<R> {
    lines: BufReader<R>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> ControlReader<R> {
    /// Reads from `channel`.
    pub fn new(channel: R) -> Self {
        Self { lines: BufReader::with_capacity(256, channel), line: Vec::new() }
    }

    /// The next message, or `None` at the end. Cancel-safe: what was read of a line is kept.
    pub async fn read<M: DeserializeOwned>(&mut self) -> Result<Option<M>, ControlError> {
        let room = MAX_LINE - self.line.len() as u64;
        (&mut self.lines).take(room).read_until(b'\n', &mut self.line).await?;
        if self.line.last() != Some(&b'\n') {
            return if self.line.len() as u64 == MAX_LINE { Err(ControlError::TooLong) } else { Ok(None) };
        }
        let message = serde_json::from_slice(&self.line)?;
        self.line.clear();
        Ok(Some(message))
    }
}

/// Writes one message.
pub async fn write<W: AsyncWrite + Unpin>(channel: &mut W, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    channel.write_all(&line).await?;
    channel.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_arrive_in_order_and_the_end_is_seen() {
        let (mut near, far) = tokio::io::duplex(8);
        let mut reader = ControlReader::new(far);
        let sent = [ToAgent::Welcome { idle_timeout_s: 300 }, ToAgent::Hold, ToAgent::CloseGranted];
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            for message in &sent {
                write(&mut near, message).await.expect("taken");
            }
        });
        for message in expected {
            assert_eq!(reader.read::<ToAgent>().await.expect("well-formed"), Some(message));
        }
        writer.await.expect("no panic");
        assert_eq!(reader.read::<ToAgent>().await.expect("the end"), None);
    }

    #[tokio::test]
    async fn a_peer_that_sends_nonsense_or_no_line_end_is_refused() {
        let mut reader = ControlReader::new(&b"{\"type\":\"dance\"}\n"[..]);
        assert!(matches!(reader.read::<ToAgent>().await, Err(ControlError::Malformed(_))));
        let endless = vec![b'x'; 10_000];
        let mut reader = ControlReader::new(&endless[..]);
        assert!(matches!(reader.read::<ToAgent>().await, Err(ControlError::TooLong)));
    }

    #[tokio::test]
    async fn reading_goes_on_where_a_cancelled_read_stopped() {
        let (mut near, far) = tokio::io::duplex(64);
        let mut reader = ControlReader::new(far);
        near.write_all(b"{\"type\":").await.expect("taken");
        tokio::select! {
            biased;
            _ = reader.read::<ToAgent>() => panic!("half a line is no message"),
            () = tokio::task::yield_now() => {}
        }
        near.write_all(b"\"hold\"}\n").await.expect("taken");
        assert_eq!(reader.read::<ToAgent>().await.expect("well-formed"), Some(ToAgent::Hold));
    }
}
