//! The operator's side of simulated agents: raises flags, opens streams to the service behind an agent, and compares every
//! byte that comes back.

use std::sync::Arc;
use std::time::Duration;

use shared::id::EdgeName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::result::FailureKind;
use super::tunnel::SERVICE;
use crate::admin::{Admin, BoxedIo};
use crate::pattern::Pattern;
use crate::service::{Order, Work, YES};

/// Bytes that are sent through a stream that was just opened, to see them come back.
const PROBE: usize = 64;
/// Largest head of the gateway's answer to an upgrade.
const MAX_HEAD: usize = 4096;
/// Longest wait for a message to come back through a stream that is open.
const ECHO_TIMEOUT: Duration = Duration::from_secs(20);

/// An operator of one gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Operator {
    admin: Admin,
    pattern: Pattern,
    names: Arc<[EdgeName]>,
}

/// A stream to an agent's service that sends everything back.
pub struct Echo {
    io: BoxedIo,
    pattern: Pattern,
    at: u64,
}

impl Operator {
    /// For agents of edges with these names, in the order of their numbers.
    pub fn new(admin: Admin, pattern: Pattern, names: Vec<EdgeName>) -> Self {
        Self { admin, pattern, names: names.into() }
    }

    fn name(&self, agent: u32) -> &EdgeName {
        &self.names[usize::try_from(agent).expect("a usize has 32 bits at least")]
    }

    /// Raises an agent's flag.
    ///
    /// # Errors
    /// If the gateway does not take it.
    pub async fn raise(&self, agent: u32) -> Result<(), FailureKind> {
        self.admin.raise(self.name(agent)).await.map(drop).map_err(|_| FailureKind::Admin)
    }

    /// Lowers an agent's flag, which closes its tunnel.
    ///
    /// # Errors
    /// If the gateway does not take it.
    pub async fn lower(&self, agent: u32) -> Result<(), FailureKind> {
        self.admin.lower(self.name(agent)).await.map(drop).map_err(|_| FailureKind::Admin)
    }

    /// Opens a stream to an agent's service: until the service itself has said that it is there.
    ///
    /// # Errors
    /// What failed; [`FailureKind::Timeout`] after `within`.
    pub async fn open(&self, agent: u32, within: Duration) -> Result<Echo, FailureKind> {
        timeout(within, self.enter(agent)).await.unwrap_or(Err(FailureKind::Timeout))
    }

    async fn enter(&self, agent: u32) -> Result<Echo, FailureKind> {
        let mut io = self.admin.connect().await.map_err(|_| FailureKind::Connect)?;
        let path = format!("/api/v1/edges/{}/services/{SERVICE}/stream", self.name(agent));
        let request = self.admin.upgrade_request(&path);
        io.write_all(request.expose().as_bytes()).await.map_err(|_| FailureKind::Broken)?;
        upgraded(&mut io).await?;
        let order = Order { work: Work::Echo, start: 0, length: 0 };
        io.write_all(&order.encode()).await.map_err(|_| FailureKind::Broken)?;
        match io.read_u8().await {
            Ok(YES) => Ok(Echo { io, pattern: self.pattern.clone(), at: u64::from(agent) }),
            Ok(_) => Err(FailureKind::Data),
            Err(_) => Err(FailureKind::Broken),
        }
    }
}

impl Echo {
    /// Sends a few bytes there and back.
    ///
    /// # Errors
    /// If they do not come back, or others do.
    pub async fn probe(&mut self) -> Result<(), FailureKind> {
        self.round_trip(PROBE).await
    }

    /// Sends the next `length` bytes of the pattern there and back.
    ///
    /// # Errors
    /// If they do not come back, or others do.
    pub async fn round_trip(&mut self, length: usize) -> Result<(), FailureKind> {
        let (start, length) = (self.at, length as u64);
        self.at += length;
        let (mut reader, mut writer) = tokio::io::split(&mut self.io);
        let both = async {
            tokio::try_join!(
                self.pattern.send(&mut writer, start, length),
                self.pattern.receive(&mut reader, start, length),
            )
        };
        match timeout(ECHO_TIMEOUT, both).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => Err(FailureKind::Data),
            Ok(Err(_)) => Err(FailureKind::Broken),
            Err(_) => Err(FailureKind::Timeout),
        }
    }

    /// Ends it in order, and waits for the other side to do the same.
    ///
    /// # Errors
    /// If it breaks, or more comes than was sent.
    pub async fn finish(mut self) -> Result<(), FailureKind> {
        let finishing = async {
            self.io.shutdown().await?;
            self.io.read(&mut [0; 1]).await
        };
        match timeout(ECHO_TIMEOUT, finishing).await {
            Ok(Ok(0)) => Ok(()),
            Ok(Ok(_)) => Err(FailureKind::Data),
            Ok(Err(_)) => Err(FailureKind::Broken),
            Err(_) => Err(FailureKind::Timeout),
        }
    }
}

/// Reads the answer to the upgrade. The service speaks only when spoken to, so nothing of it can follow the head.
async fn upgraded(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), FailureKind> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if io.read_buf(&mut head).await.map_err(|_| FailureKind::Broken)? == 0 {
            return Err(FailureKind::Broken);
        }
        if head.len() >= 12 && !head.starts_with(b"HTTP/1.1 101") {
            return Err(refused(&head));
        }
        if head.len() > MAX_HEAD {
            return Err(FailureKind::Nonsense);
        }
    }
    Ok(())
}

/// What the status line says: `HTTP/1.1 503 ...`.
fn refused(head: &[u8]) -> FailureKind {
    match head.get(9..12) {
        Some(b"429") => FailureKind::TooMany,
        Some([b'5', ..]) => FailureKind::Unavailable,
        Some([b'4', ..]) => FailureKind::Admin,
        Some(_) | None => FailureKind::Nonsense,
    }
}
