//! The socket in the data folder over which a running agent says how it is: whoever connects gets [`Status`] as JSON,
//! and then its end. Nothing is ever read from it.
//!
//! The rule: only the agent's own user and root are told. The socket is 0600; and because not every system looks at the
//! permissions of a socket (unix(7)), its peer is asked for as well.

use std::fs::Permissions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::time::{sleep, timeout};

use super::{Board, Status};

const NAME: &str = "status.sock";
/// Longest wait for a peer to take its few KiB, which fit into a socket's buffer; and for an agent to give them.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept (out of descriptors): long enough not to spin.
const BACK_OFF: Duration = Duration::from_millis(200);
/// Largest status: 128 services of some 300 bytes, and a long reason.
const MAX_STATUS: u64 = 256 * 1024;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no agent runs on {0}; start it, or name its data folder with --data-dir")]
    NotRunning(PathBuf),
    /// The socket is somebody else's.
    #[error("can't ask the agent of {folder}: {source}; run this as the agent's user")]
    Io {
        /// Whose.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It said something else.
    #[error("the agent of {0} did not say how it is: is it of another version?")]
    Answer(PathBuf),
}

/// Asks the agent of this data folder how it is.
pub fn ask(folder: &Path) -> Result<Status, AskError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NotRunning(folder.to_owned()),
        _ => AskError::Io { folder: folder.to_owned(), source },
    };
    let stream = UnixStream::connect(folder.join(NAME)).map_err(failed)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    let mut json = String::new();
    stream.take(MAX_STATUS).read_to_string(&mut json).map_err(failed)?;
    serde_json::from_str(&json).map_err(|_| AskError::Answer(folder.to_owned()))
}

/// The socket, which is gone with the value.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
    /// User of this process, who owns what it makes.
    owner: u32,
}

impl Socket {
    /// In a data folder that this process owns; what an earlier process left there is replaced.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(NAME);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(&path)?;
        let owner = path.metadata()?.uid();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self { path, listener, owner })
    }

    /// Tells whoever asks, one after the other, for ever.
    pub async fn serve(self, board: Board) {
        loop {
            let mut stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "the status socket can't accept");
                    sleep(BACK_OFF).await;
                    continue;
                }
            };
            if !stream.peer_cred().is_ok_and(|peer| peer.uid() == self.owner || peer.uid() == 0) {
                continue;
            }
            let json = serde_json::to_vec(&board.status(Instant::now()))
                .expect("strings, numbers and lists have no failing serializer");
            // Whoever went away in between needs no answer.
            let _ = timeout(TIMEOUT, stream.write_all(&json)).await;
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use shared::id::InstanceId;

    use super::*;

    #[tokio::test]
    async fn whoever_has_the_folder_is_told_as_long_as_the_agent_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(matches!(ask(folder.path()), Err(AskError::NotRunning(_))));
        std::fs::write(folder.path().join(NAME), "left by a crash").expect("written");
        let board = Board::new(InstanceId::random(), vec![], SystemTime::now());
        let socket = Socket::open(folder.path()).expect("the folder is ours");
        let path = folder.path().join(NAME);
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        let serving = tokio::spawn(socket.serve(board.clone()));
        let asked = folder.path().to_owned();
        let status = tokio::task::spawn_blocking(move || ask(&asked)).await.expect("no panic");
        assert_eq!(status.expect("an answer").instance, board.status(Instant::now()).instance);
        serving.abort();
        assert!(serving.await.is_err());
        assert!(!path.exists() && matches!(ask(folder.path()), Err(AskError::NotRunning(_))));
    }
}
