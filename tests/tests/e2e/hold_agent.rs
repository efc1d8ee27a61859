//! Agents whose gateway holds their check-ins: they are reached at once, whatever their interval is, also across restarts
//! and behind what cuts off those that wait.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::join_token::JoinToken;
use shared::wire::admin::{CreateEdge, Settings, TunnelState};
use tests::agent::{Agent, AgentOptions};
use tests::fakes::http::Web;
use tests::gateway::Gateway;
use tests::process::run;
use tests::site::EDGE;
use tests::wait::{SOON, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Long enough that nothing which happens within seconds can be a check-in's turn.
const INTERVAL_S: u32 = 60;
/// As long as agents ask for.
const HOLD_S: u32 = 50;
/// What an operator may notice, and a machine that runs other tests as well takes.
const AT_ONCE: Duration = Duration::from_secs(5);
/// IPv4, and TCP with time stamps.
const PACKET: usize = 20 + 32;
/// Most that a check-in may cost.
const CHECK_IN: usize = 270;

async fn holding_gateway() -> Gateway {
    let gateway = Gateway::start().await;
    gateway.admin.set(Settings { hold_s: Some(HOLD_S), ..Settings::default() }).await;
    gateway
}

fn slow(edge: &mut CreateEdge) {
    edge.interval_s = Some(INTERVAL_S);
}

/// Waits until the agent says that its gateway holds its check-ins.
async fn wait_held(agent: &Agent) {
    until(SOON, "the agent's check-ins are held", async || {
        let status = run(agent.cli(&["status", "-o", "json"])).await;
        let status: serde_json::Value = serde_json::from_str(&status.stdout).ok()?;
        status.get("held_s").map(drop)
    })
    .await;
}

/// How long it takes from an operator's wish to an open tunnel.
async fn wake(gateway: &Gateway) -> Duration {
    let began = Instant::now();
    gateway.admin.raise(EDGE).await;
    gateway.admin.wait_tunnel(EDGE, TunnelState::Open).await;
    began.elapsed()
}

#[tokio::test]
async fn agent_that_is_held_is_reached_at_once_although_its_interval_is_a_minute() {
    let (web, gateway) = (Web::start().await, holding_gateway().await);
    let edge = gateway.admin.create_with(EDGE, slow).await;
    let agent = AgentOptions::joining(&edge).expose("web", web.url()).start();
    wait_held(&agent).await;
    for _ in 0..2 {
        let took = wake(&gateway).await;
        println!("the tunnel was open after {took:?}");
        assert!(took < AT_ONCE, "{took:?}");
        gateway.admin.lower(EDGE).await;
        gateway.admin.wait_tunnel(EDGE, TunnelState::Idle).await;
        wait_held(&agent).await;
    }
    let doctor = run(agent.cli(&["doctor"])).await;
    assert!(doctor.stdout.contains("holds check-ins"), "{doctor:?}");
}

#[tokio::test]
async fn gateway_that_restarts_while_it_holds_reaches_its_agent_within_seconds() {
    let (web, mut gateway) = (Web::start().await, holding_gateway().await);
    let edge = gateway.admin.create_with(EDGE, slow).await;
    let agent = AgentOptions::joining(&edge).expose("web", web.url()).start();
    for killed in [true, false] {
        wait_held(&agent).await;
        if killed {
            gateway.kill_and_resume().await;
        } else {
            gateway.stop().await;
            gateway.resume().await;
        }
        let took = wake(&gateway).await;
        println!("the tunnel was open {took:?} after the restart");
        assert!(took < Duration::from_secs(u64::from(INTERVAL_S) / 2), "{took:?}");
        gateway.admin.lower(EDGE).await;
        gateway.admin.wait_tunnel(EDGE, TunnelState::Idle).await;
    }
}

#[tokio::test]
async fn agent_behind_a_proxy_that_cuts_off_what_waits_learns_it_and_is_still_reached() {
    let (web, gateway) = (Web::start().await, holding_gateway().await);
    let relay = Relay::start(gateway.api(), Some(Duration::from_secs(8))).await;
    let edge = gateway.admin.create_with(EDGE, slow).await;
    let agent = AgentOptions::with_token(&relay.before(&edge.join_token)).expose("web", web.url()).start();
    agent.log().wait_for("cuts off check-ins", Duration::from_secs(90)).await;
    // The first one was cut off, and the second; the next one is asked for less.
    let before = until(SOON, "it asks again", async || {
        let connections = relay.connections();
        (connections > 2).then_some(connections)
    })
    .await;
    let took = wake(&gateway).await;
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(relay.connections(), before, "it was held, and for less than the proxy allows");
}

#[tokio::test]
async fn agent_behind_a_proxy_that_lets_nothing_wait_checks_in_at_its_interval() {
    let (web, gateway) = (Web::start().await, holding_gateway().await);
    let relay = Relay::start(gateway.api(), Some(Duration::from_secs(2))).await;
    let edge = gateway.admin.create_with(EDGE, |edge| edge.interval_s = Some(1)).await;
    let agent = AgentOptions::with_token(&relay.before(&edge.join_token)).expose("web", web.url()).start();
    agent.log().wait_for("cuts off check-ins", Duration::from_secs(60)).await;
    let took = wake(&gateway).await;
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn idle_check_in_of_the_real_agent_costs_what_is_promised() {
    let gateway = Gateway::start().await;
    let relay = Relay::start(gateway.api(), None).await;
    let edge = gateway.admin.create(EDGE).await;
    let _agent = AgentOptions::with_token(&relay.before(&edge.join_token)).start();
    // The first of them shake hands, say hello and fill tables.
    let passed = until(SOON, "the agent checks in", async || {
        let passed = relay.passed();
        (passed.len() >= 30).then_some(passed)
    })
    .await;
    let first = passed.iter().skip(20).position(|(side, _)| *side == Side::Agent).expect("it asks");
    let idle: Vec<_> = passed[20 + first..].chunks_exact(2).collect();
    assert!(idle.len() >= 3, "{passed:?}");
    for pair in idle {
        let [(Side::Agent, question), (Side::Gateway, answer)] = *pair else { panic!("{passed:?}") };
        // The agent's kernel acknowledges the answer.
        let cost = question + answer + 3 * PACKET;
        println!("an idle check-in: {question} and {answer} bytes, {cost} with TCP/IP");
        assert!(cost <= CHECK_IN, "{cost} bytes");
    }
}

/// Stands between an agent and its gateway, notes what passes, and cuts a connection off on which nothing passes for some
/// time, as proxies do.
struct Relay {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    passed: Passed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Agent,
    Gateway,
}

/// Whose bytes, and how many, of each piece that came.
type Passed = Arc<Mutex<Vec<(Side, usize)>>>;

impl Relay {
    async fn start(target: SocketAddr, patience: Option<Duration>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        let relay = Self { address, connections: Arc::default(), passed: Passed::default() };
        let (connections, passed) = (relay.connections.clone(), relay.passed.clone());
        tokio::spawn(async move {
            while let Ok((agent, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                // A gateway that is away can't be reached through a proxy either.
                let Ok(gateway) = TcpStream::connect(target).await else { continue };
                tokio::spawn(pass(agent, gateway, patience, passed.clone()));
            }
        });
        relay
    }

    /// The join token of an agent behind it.
    fn before(&self, token: &str) -> String {
        let mut token: JoinToken = token.parse().expect("the gateway makes good tokens");
        token.api_url = format!("https://{}", self.address);
        token.expose()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn passed(&self) -> Vec<(Side, usize)> {
        self.passed.lock().expect("no panic").clone()
    }
}

/// However it ends, both connections end with it.
async fn pass(
    mut agent: TcpStream,
    mut gateway: TcpStream,
    patience: Option<Duration>,
    passed: Passed,
) -> io::Result<()> {
    agent.set_nodelay(true)?;
    gateway.set_nodelay(true)?;
    let (mut asked, mut answered) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        let next = async {
            tokio::select! {
                count = agent.read(&mut asked) => count.map(|count| (Side::Agent, count)),
                count = gateway.read(&mut answered) => count.map(|count| (Side::Gateway, count)),
            }
        };
        let (side, count) = match patience {
            Some(patience) => timeout(patience, next).await??,
            None => next.await?,
        };
        match (side, count) {
            (_, 0) => return Ok(()),
            (Side::Agent, count) => gateway.write_all(&asked[..count]).await?,
            (Side::Gateway, count) => agent.write_all(&answered[..count]).await?,
        }
        passed.lock().expect("no panic").push((side, count));
    }
}
