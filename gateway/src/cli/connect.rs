//! `tidegate connect EDGE/SERVICE`: a service of an edge as a local port, or on standard input and output.
//!
//! The rule: what one end does, the other sees as it was. The end of a direction passes as the end of that direction;
//! a reset, or a stream that was cut without a word, passes as a reset.

mod stdio;

use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::Method;
use shared::id::{EdgeName, ServiceName};
use shared::tunnel::carry::Local;
use shared::wire::admin::{Edge, Tunnel};
use tokio::io::{AsyncWriteExt as _, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use self::stdio::Stdio;
use super::access::Access;
use super::client::{Client, NOTHING};
use super::edge::wait::narrated;
use super::exit::{CliError, complain};
use super::output::print_own;
use super::transport::Upgraded;

/// Connections at once through one `--listen`: more than any program opens to a database, and far below the files that
/// a process may have open. When full, new ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 400;
/// A stream that takes longer than this to open is worth a word, since the edge may be asleep.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes carried at a time, in each direction: one TLS record or two messages of a tunnel.
const BUFFER: usize = 64 * 1024;
/// How often a `--listen` says that it holds the tunnel. The gateway's lease is 70 s at least.
const HOLD_EVERY: Duration = Duration::from_secs(30);
/// Pause after a failed accept (out of files): long enough not to spin.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(200);

/// `tidegate connect`.
#[derive(Args, Debug)]
pub struct ConnectArgs {
    /// Which service of which edge, such as shop-17/db
    #[arg(value_name = "EDGE/SERVICE")]
    target: ServiceOfEdge,
    #[command(flatten)]
    local: LocalEnd,
    #[command(flatten)]
    access: Access,
}

#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
struct LocalEnd {
    /// Listen on this address and carry every connection; port 0 takes a free one, which is printed
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Carry standard input and output: for ssh -o ProxyCommand='tidegate connect EDGE/ssh --stdio'
    #[arg(long)]
    stdio: bool,
}

/// A service's address inside the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ServiceOfEdge {
    edge: EdgeName,
    service: ServiceName,
}

impl FromStr for ServiceOfEdge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (edge, service) = text.split_once('/').ok_or("give EDGE/SERVICE, such as shop-17/db")?;
        let edge = edge.parse().map_err(|error| format!("the edge's name is {error}"))?;
        let service = service.parse().map_err(|error| format!("the service's name is {error}"))?;
        Ok(Self { edge, service })
    }
}

impl ServiceOfEdge {
    fn path(&self) -> String {
        format!("/api/v1/edges/{}/services/{}/stream", self.edge, self.service)
    }
}

impl ConnectArgs {
    /// Carries until standard input and output are done, or for ever.
    pub async fn run(self) -> Result<(), CliError> {
        let client = self.access.client()?;
        match self.local.listen {
            Some(address) => listen(client, self.target, address).await,
            None => {
                let stdio =
                    Stdio::new().map_err(|error| CliError::failed("can't use standard input", error))?;
                let stream = open(&client, &self.target).await?;
                carry(stdio, stream).await.map_err(|error| CliError::Failed(cut(&error)))
            }
        }
    }
}

async fn listen(client: Client, target: ServiceOfEdge, address: SocketAddr) -> Result<(), CliError> {
    // A wrong token or name is better told now than at the first connection.
    let _: Edge = client.call(Method::GET, &format!("/api/v1/edges/{}", target.edge), NOTHING).await?;
    let bound = TcpListener::bind(address).await;
    let listener = bound.map_err(|error| CliError::failed(format!("can't listen on {address}"), error))?;
    let address = listener.local_addr().map_err(|error| CliError::failed("can't tell the address", error))?;
    print_own(&format!("{address}\n"))?;
    complain(&format!("every connection to {address} goes to {} of {}", target.service, target.edge));
    let (places, client, target) =
        (Arc::new(Semaphore::new(MAX_CONNECTIONS)), Arc::new(client), Arc::new(target));
    tokio::spawn(hold(Arc::clone(&client), target.edge.clone()));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((socket, _)) => {
                tokio::spawn(serve(socket, Arc::clone(&client), Arc::clone(&target), place));
            }
            Err(error) => {
                complain(&format!("can't accept a connection: {error}"));
                sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}

/// Keeps the tunnel from closing while this session is there, also between connections: its operator is at work. When
/// the session ends, the gateway's lease runs out by itself.
async fn hold(client: Arc<Client>, edge: EdgeName) {
    let path = format!("/api/v1/edges/{edge}/tunnel");
    loop {
        // A gateway that is away says so to whoever connects; the next round finds it back.
        let _ = client.call::<Tunnel>(Method::POST, &path, NOTHING).await;
        sleep(HOLD_EVERY).await;
    }
}

async fn serve(
    mut socket: TcpStream,
    client: Arc<Client>,
    target: Arc<ServiceOfEdge>,
    _place: OwnedSemaphorePermit,
) {
    // Small messages of interactive protocols should not wait for one another. Without it they still arrive.
    let _ = socket.set_nodelay(true);
    match open(&client, &target).await {
        // A cut stream is a reset of the local connection, and its program says so.
        Ok(stream) => drop(carry(socket, stream).await),
        Err(error) => {
            complain(&error);
            socket.reset();
        }
    }
}

/// Why a stream ended out of order, in the operator's words.
fn cut(error: &io::Error) -> String {
    match error.kind() {
        // Without TLS a reset is a reset; with TLS it may also be an end without a close_notify.
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
            "the service or its tunnel reset the stream".to_owned()
        }
        _ => format!("the stream was cut: {error}"),
    }
}

/// A stream to the service, with a word on standard error where it takes a while.
async fn open(client: &Client, target: &ServiceOfEdge) -> Result<Upgraded, CliError> {
    let started = Instant::now();
    let path = target.path();
    let mut opening = std::pin::pin!(client.upgrade(&path));
    if let Ok(opened) = timeout(PATIENCE, &mut opening).await {
        return opened;
    }
    complain(&format!("waiting for {} to open its tunnel", target.edge));
    let opened = narrated(client, &target.edge, opening).await?;
    complain(&format!("{} opened its tunnel after {:.1} s", target.edge, started.elapsed().as_secs_f32()));
    Ok(opened)
}

/// Carries bytes both ways until both directions are done. On an error both ends are reset.
async fn carry<L: Local>(mut local: L, upgraded: Upgraded) -> io::Result<()> {
    let Upgraded { mut stream, early } = upgraded;
    let carried = async {
        local.write_all(&early).await?;
        local.flush().await?;
        copy_bidirectional_with_sizes(&mut local, &mut stream, BUFFER, BUFFER).await
    };
    match carried.await {
        Ok(_) => Ok(()),
        Err(error) => {
            local.reset();
            stream.reset();
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::AsyncReadExt as _;

    use super::super::transport::Transport;
    use super::*;

    /// Two ends of a TCP connection on loopback.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        (one.expect("it listens"), other.expect("it connects").0)
    }

    /// A program, what carries for it, and the gateway.
    async fn carried(
        early: &'static [u8],
    ) -> (TcpStream, tokio::task::JoinHandle<io::Result<()>>, TcpStream) {
        let ((program, local), (stream, gateway)) = tokio::join!(pair(), pair());
        let upgraded = Upgraded { stream: Transport::Plain(stream), early: Bytes::from_static(early) };
        (program, tokio::spawn(carry(local, upgraded)), gateway)
    }

    #[tokio::test]
    async fn each_direction_ends_by_itself() {
        let (mut program, carrying, mut gateway) = carried(b"early ").await;
        program.write_all(b"question").await.expect("sent");
        program.shutdown().await.expect("sent");
        let mut received = String::new();
        gateway.read_to_string(&mut received).await.expect("an orderly end");
        assert_eq!(received, "question");
        gateway.write_all(b"answer").await.expect("sent");
        gateway.shutdown().await.expect("sent");
        let mut received = String::new();
        program.read_to_string(&mut received).await.expect("an orderly end");
        assert_eq!(received, "early answer");
        carrying.await.expect("no panic").expect("an orderly end");
    }

    #[tokio::test]
    async fn reset_of_either_end_resets_the_other() {
        for from_program in [true, false] {
            let (program, carrying, gateway) = carried(b"").await;
            let (resetting, mut other) = if from_program { (program, gateway) } else { (gateway, program) };
            resetting.set_zero_linger().expect("an open socket");
            drop(resetting);
            let error = other.read(&mut [0; 1]).await.expect_err("a reset");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "from the program: {from_program}");
            carrying.await.expect("no panic").expect_err("a reset");
        }
    }

    #[test]
    fn target_is_an_edge_and_a_service() {
        let target: ServiceOfEdge = "shop-17/db".parse().expect("a target");
        assert_eq!(target.path(), "/api/v1/edges/shop-17/services/db/stream");
        for bad in ["shop-17", "shop-17/", "/db", "shop-17/db/x", "Shop/db"] {
            assert!(bad.parse::<ServiceOfEdge>().is_err(), "{bad}");
        }
    }
}
