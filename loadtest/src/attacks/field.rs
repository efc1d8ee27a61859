//! What attackers know and own: the gateway's two ports, addresses to come from, stolen edges, and an operator's token for
//! the attacks of operators.
//!
//! The rule: attackers come from addresses of 127.64.0.0/14, where no honest agent and no honest operator is, except where
//! an attack is that they share one ([`Field::neighbour`]).

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fixtures::intruder::{Intruder, Login, dial};
use shared::fingerprint::TlsFingerprint;
use shared::id::{EdgeName, InstanceId};
use shared::join_token::JoinToken;
use shared::line::Protocol;
use shared::secret::Secret;
use shared::wire::check_in::{Authorization, Identity};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::account::Fate;
use crate::admin::Admin;
use crate::agents::connection::Endpoint;
use crate::agents::tunnel::Ground;
use crate::gateway::Gateway;
use crate::pattern::Pattern;

/// Addresses that strangers come from, a second number each: 127.64.x.y.
const STRANGERS: u8 = 64;
/// Newcomers who only want to know whether the doors are open, 127.65.x.y.
const NEWCOMERS: u8 = 65;
/// Machines with a stolen edge's key, 127.66.x.y.
const THIEVES: u8 = 66;
/// Addresses that a crowd of strangers comes from. With more, each would have fewer sockets, and the limits of a source
/// would not be met.
const CROWD: u32 = 1000;
/// Edges whose keys the attackers have.
pub const STOLEN: u32 = 8;
/// Check-in interval and idle time of the stolen edges: attackers check in when they want to.
const INTERVAL_S: u32 = 1;
const IDLE_TIMEOUT_S: u32 = 604_800;
/// Longest wait for an answer that attackers need to go on. Whoever guesses passwords before may be made to wait.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Most that is read of an answer.
const MOST_ANSWER: u64 = 4 << 20;

/// See the module's text. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Field {
    inner: Arc<Inner>,
    /// Which crowd of strangers attacks: each attack has one of its own, that nobody knows and nobody has penalised.
    crowd: u32,
}

#[derive(Debug)]
struct Inner {
    api: SocketAddr,
    ssh: SocketAddr,
    admin: Admin,
    token: Secret<String>,
    stolen: Vec<Stolen>,
    endpoint: Endpoint,
    ground: Arc<Ground>,
    neighbour: Ipv4Addr,
    scale: f64,
    length: Duration,
    restarts: mpsc::Sender<oneshot::Sender<()>>,
}

/// An edge whose key the attackers have.
#[derive(Clone, Debug)]
pub struct Stolen {
    /// Its name.
    pub name: EdgeName,
    /// What its agent shows.
    pub identity: Identity,
    /// Where the attackers come from when they use it.
    pub source: Ipv4Addr,
}

/// How hard to attack.
#[derive(Clone, Copy, Debug)]
pub struct Force {
    /// How many of everything, of what the full size is.
    pub scale: f64,
    /// How long at least.
    pub length: Duration,
    /// The address of some honest agents.
    pub neighbour: Ipv4Addr,
}

impl Field {
    /// At this gateway. Who asks for a restart of it is heard at the other end of `restarts`.
    ///
    /// # Errors
    /// If the gateway does not enrol the edges that are to be stolen.
    pub async fn of(
        gateway: &Gateway,
        force: Force,
        restarts: mpsc::Sender<oneshot::Sender<()>>,
    ) -> Result<Self> {
        let names: Vec<String> = (0..STOLEN).map(|number| format!("stolen-{number}")).collect();
        let admin = gateway.admin.over_tls(gateway.fingerprint)?;
        let mut stolen = Vec::new();
        let mut host_keys = Vec::new();
        for (number, edge) in (1..).zip(admin.enrol(&names, INTERVAL_S, IDLE_TIMEOUT_S).await?) {
            let token: JoinToken =
                edge.join_token.parse().context("the gateway made a join token that is none")?;
            let edge_id = edge.edge_id.parse().context("the gateway made an edge ID that is none")?;
            let authorization = Authorization { edge_id, key: token.key };
            let identity = Identity { authorization, instance: InstanceId::random() };
            host_keys = token.host_keys;
            stolen.push(Stolen { name: edge.name, identity, source: Ipv4Addr::new(127, THIEVES, 0, number) });
        }
        let token = std::fs::read_to_string(gateway.token_file()).context("can't read the API token")?;
        let inner = Arc::new(Inner {
            api: gateway.api,
            ssh: gateway.ssh,
            admin: gateway.admin.clone(),
            token: Secret::new(token.trim().to_owned()),
            stolen,
            endpoint: endpoint(gateway.api, gateway.fingerprint)?,
            ground: Arc::new(Ground::new(host_keys, Pattern::new(0))),
            neighbour: force.neighbour,
            scale: force.scale,
            length: force.length,
            restarts,
        });
        Ok(Self { inner, crowd: 0 })
    }

    /// The same with another crowd of strangers.
    pub fn with_crowd(&self, crowd: u32) -> Self {
        Self { inner: Arc::clone(&self.inner), crowd }
    }

    /// Port 9000.
    pub fn api(&self) -> SocketAddr {
        self.inner.api
    }

    /// Port 8000.
    pub fn ssh(&self) -> SocketAddr {
        self.inner.ssh
    }

    /// An admin, for what the honest side does about the attackers' edges.
    pub fn admin(&self) -> &Admin {
        &self.inner.admin
    }

    /// An operator's API token, for the attacks of operators.
    pub fn token(&self) -> &Secret<String> {
        &self.inner.token
    }

    /// The edges whose keys the attackers have.
    pub fn stolen(&self) -> &[Stolen] {
        &self.inner.stolen
    }

    /// Where agents ask.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// What tunnels need to know.
    pub fn ground(&self) -> &Arc<Ground> {
        &self.inner.ground
    }

    /// The address of some honest agents.
    pub fn neighbour(&self) -> Ipv4Addr {
        self.inner.neighbour
    }

    /// How many of something, of which the full size has so many.
    pub fn count(&self, full: u32) -> u32 {
        ((f64::from(full) * self.inner.scale).ceil() as u32).max(1)
    }

    /// How long an attack goes on at least.
    pub fn length(&self) -> Duration {
        self.inner.length
    }

    /// When an attack that begins now may end.
    pub fn end(&self) -> Instant {
        Instant::now() + self.inner.length
    }

    /// The address of the `number`th of a crowd of strangers.
    pub fn stranger(&self, number: u32) -> Ipv4Addr {
        address(STRANGERS, self.crowd * CROWD + number % CROWD)
    }

    /// An address from which nobody came before, if the number is new.
    pub fn newcomer(&self, number: u32) -> Ipv4Addr {
        address(NEWCOMERS, number)
    }

    /// A connection to port 8000, past the key exchange.
    ///
    /// # Errors
    /// Those of the connection; `TimedOut` after [`PATIENCE`].
    pub async fn greet(&self, from: Ipv4Addr) -> io::Result<Intruder> {
        in_time(async { Intruder::greet(dial(self.ssh(), from).await?).await }).await
    }

    /// An operator's connection to port 8000, by a token as password.
    ///
    /// # Errors
    /// If it is not let in.
    pub async fn operator(&self, from: Ipv4Addr) -> Result<Intruder> {
        let mut intruder = self.greet(from).await.context("port 8000 does not speak SSH")?;
        let login = in_time(intruder.password("ada", self.token().expose())).await;
        match login.context("no answer to an operator's login")? {
            Login::Accepted => Ok(intruder),
            Login::Refused | Login::KeyWanted => anyhow::bail!("an operator's token was refused"),
        }
    }

    /// What the gateway answers to these bytes on port 9000, over plain HTTP, until it closes or says nothing more.
    ///
    /// # Errors
    /// If there is no connection to be had.
    pub async fn tell(&self, from: Ipv4Addr, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = dial(self.api(), from).await?;
        // Whoever closes in the middle of it may have said why.
        let _ = timeout(PATIENCE, stream.write_all(bytes)).await;
        Ok(answer(&mut stream).await)
    }

    /// The gateway is restarted.
    ///
    /// # Errors
    /// If it does not come back.
    pub async fn restart(&self) -> Result<()> {
        let (done, restarted) = oneshot::channel();
        self.inner.restarts.send(done).await.context("nobody restarts the gateway")?;
        restarted.await.context("the gateway does not restart")
    }

    /// Whether a newcomer from there is served on both ports.
    pub async fn serves(&self, from: Ipv4Addr) -> bool {
        let banner = async {
            let mut stream = dial(self.ssh(), from).await?;
            stream.read_exact(&mut [0; 8]).await
        };
        let health = self.tell(from, b"GET /healthz HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n");
        let (banner, health) = tokio::join!(in_time(banner), in_time(health));
        banner.is_ok() && health.is_ok_and(|answer| Fate::of_answer(&answer) == Fate::Answered(200))
    }
}

fn endpoint(api: SocketAddr, pin: TlsFingerprint) -> Result<Endpoint> {
    Ok(Endpoint::new(api, &[pin], Protocol::Http1, None, false)?)
}

fn address(network: u8, number: u32) -> Ipv4Addr {
    // The last byte is 1 to 250, so that no address looks like one of a network or a broadcast.
    let [_, _, _, third] = (number / 250).to_be_bytes();
    let [_, _, _, last] = (number % 250 + 1).to_be_bytes();
    Ipv4Addr::new(127, network, third, last)
}

/// Whatever comes until the connection ends, or nothing has come for [`PATIENCE`].
pub async fn answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too; what came before it counts.
    let _ = timeout(PATIENCE, stream.take(MOST_ANSWER).read_to_end(&mut bytes)).await;
    bytes
}

/// What the work comes to within [`PATIENCE`].
///
/// # Errors
/// Those of the work; `TimedOut`.
pub async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_comes_from_loopback_addresses_of_its_own() {
        let crowd: Vec<Ipv4Addr> = (0..CROWD).map(|number| address(STRANGERS, number)).collect();
        assert!(crowd.iter().all(|address| address.is_loopback() && address.octets()[1] == STRANGERS));
        assert_eq!(crowd.iter().collect::<std::collections::HashSet<_>>().len(), crowd.len());
    }
}
