//! Networks that break: an agent on a machine of its own, whose cable is pulled, whose packets vanish, whose address
//! changes. What both sides must know and when they must be back is in the constants; all cases run at the same time,
//! because most of each is waiting for keep-alives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shared::wire::admin::TunnelState;
use tempfile::TempDir;
use tests::agent::{Agent, AgentOptions};
use tests::bulk::{self, Pattern};
use tests::fakes::tcp::{UnixEcho, assert_echo};
use tests::gateway::{Gateway, GatewayOptions, Listen};
use tests::network::{Network, Weather};
use tests::site::EDGE;
use tests::wait::{SOON, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Both sides know of a break within this (three keep-alives).
const NOTICED: Duration = Duration::from_secs(45);
/// While the tunnel is wanted, the agent is back within this after its network is.
const BACK: Duration = Duration::from_secs(2);
/// An agent whose address changed knows within this: its interval, the time after which it gives up the connection that
/// it kept for check-ins, and a ping through the tunnel.
const MOVED: Duration = Duration::from_secs(20);
/// How the gateway says that an agent told it.
const REPORTED: &str = "its agent says that it is lost";
/// For a machine that is busy with other tests.
const MARGIN: Duration = Duration::from_secs(6);
/// A silence that a live stream must survive.
const SILENCE: Duration = Duration::from_secs(10);
/// What is moved, in both directions, where one packet of five is lost.
const BULK: u64 = 1024 * 1024;

/// A gateway here and an agent with an echo on the other machine, a tunnel between them.
struct Scene {
    network: Arc<Network>,
    gateway: Gateway,
    agent: Agent,
    listen: Listen,
    _echo: (TempDir, UnixEcho),
}

impl Scene {
    async fn set() -> Self {
        let network = Arc::new(Network::lay().await);
        let gateway = GatewayOptions::default().on(network.gateway()).start().await;
        let edge = gateway.admin.create(EDGE).await;
        let folder = TempDir::new().expect("the folder for temporary files is writable");
        // Reached over the file system, which both machines share.
        let echo = UnixEcho::start(&folder.path().join("echo"));
        let agent = AgentOptions::joining(&edge).expose("echo", &echo).on(&network).start();
        gateway.admin.wait_online(EDGE).await;
        let listen = gateway.listen(EDGE, "echo").await;
        Self { network, gateway, agent, listen, _echo: (folder, echo) }
    }

    /// A stream through the tunnel that works.
    async fn stream(&self) -> TcpStream {
        let mut stream = self.listen.connect().await;
        assert_echo(&mut stream, b"before").await;
        stream
    }

    /// Waits until both sides know that the tunnel is gone, and says how long each took.
    async fn noticed(&self, since: Instant) -> [Duration; 2] {
        let within = NOTICED + MARGIN + MARGIN;
        let gateway = async {
            self.gateway.log().wait_for("tunnel closed", within).await;
            since.elapsed()
        };
        let agent = async {
            self.agent.log().wait_for("the tunnel is lost", within).await;
            since.elapsed()
        };
        let (gateway, agent) = tokio::join!(gateway, agent);
        [gateway, agent]
    }

    /// Asks until a request goes through.
    async fn works(&self) {
        until(SOON, "a request goes through", async || {
            let mut stream = TcpStream::connect(self.listen.address).await.ok()?;
            stream.write_all(b"again").await.ok()?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await.ok()?;
            (&answer == b"again").then_some(())
        })
        .await;
    }
}

/// A stream that was open ends, instead of staying there with nothing behind it.
async fn assert_ended(mut stream: TcpStream) {
    let end = tokio::time::timeout(SOON, stream.read(&mut [0; 8])).await.expect("the stream ends");
    assert!(matches!(end, Ok(0) | Err(_)), "no byte was sent: {end:?}");
}

fn assert_noticed(case: &str, noticed: [Duration; 2]) {
    println!("{case}: the gateway knew after {:?}, the agent after {:?}", noticed[0], noticed[1]);
    assert!(noticed.iter().all(|time| *time <= NOTICED + MARGIN), "{case}: {noticed:?}");
}

/// A way to cut the network so that neither side is told.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Cable,
    Packets,
}

async fn cut_is_noticed_and_the_agent_is_back_with_its_network(cut: Cut) {
    let scene = Scene::set().await;
    let open = scene.stream().await;
    match cut {
        Cut::Cable => scene.network.unplug().await,
        Cut::Packets => scene.network.weather(Weather::Silent).await,
    }
    let cut_at = Instant::now();
    // One more request, which the gateway hands to a tunnel that it can't know to be dead.
    let waits = scene.listen.connect().await;
    let noticed = scene.noticed(cut_at).await;
    assert_noticed(&format!("{cut:?}"), noticed);
    assert_ended(open).await;
    assert_ended(waits).await;
    let tunnel = scene.gateway.admin.tunnel(EDGE).await;
    let held = (tunnel.state, tunnel.holds);
    assert_eq!(
        held,
        (TunnelState::Wanted, 1),
        "what they held is free, and the listening connect still wants it"
    );

    let restored = async {
        // Not at the moment of a question: the agent asks about once a second.
        scene.gateway.admin.wait_tunnel(EDGE, TunnelState::Wanted).await;
        match cut {
            Cut::Cable => scene.network.plug_in().await,
            Cut::Packets => scene.network.weather(Weather::Fine).await,
        }
        Instant::now()
    };
    let (restored, ()) = tokio::join!(restored, scene.works());
    let back = restored.elapsed();
    println!("{cut:?}: a request went through {back:?} after the network's return");
    assert!(back <= BACK + MARGIN, "{back:?}");
}

async fn new_address_costs_a_tunnel_and_no_more_than_the_time_to_notice() {
    let scene = Scene::set().await;
    let open = scene.stream().await;
    scene.network.renumber().await;
    let moved = Instant::now();
    let noticed = scene.noticed(moved).await;
    assert_noticed("new address", noticed);
    assert!(noticed[1] <= MOVED + MARGIN, "{noticed:?}");
    assert!(scene.gateway.log().contains(REPORTED), "the agent told the gateway");
    assert_ended(open).await;
    let known = Instant::now();
    scene.works().await;
    let back = known.elapsed();
    println!("new address: a request went through {back:?} after both sides knew");
    assert!(back <= BACK + MARGIN, "{back:?}");
}

/// Nothing but the agent's own word tells the gateway that the tunnel is gone.
async fn agent_that_notices_first_is_back_with_its_network() {
    let scene = Scene::set().await;
    let mut open = scene.stream().await;
    scene.network.weather(Weather::Resets(scene.gateway.ssh().port())).await;
    // The agent's acknowledgement is what is reset.
    open.write_all(b"anybody there?").await.expect("it is buffered");
    scene.agent.log().wait_for("the tunnel is lost", SOON).await;
    assert!(!scene.gateway.log().contains("tunnel closed"), "the gateway knows nothing");
    scene.network.weather(Weather::Forgetful).await;
    let restored = Instant::now();
    scene.works().await;
    let back = restored.elapsed();
    println!("agent first: a request went through {back:?} after the network's return");
    assert!(back <= BACK + MARGIN, "{back:?}");
    scene.gateway.log().wait_for(REPORTED, SOON).await;
    assert_ended(open).await;
}

async fn stream_survives_ten_seconds_of_silence() {
    let scene = Scene::set().await;
    let mut stream = scene.stream().await;
    scene.network.weather(Weather::Silent).await;
    stream.write_all(b"into the dark").await.expect("it is buffered");
    // The duration of the silence is what is tested.
    tokio::time::sleep(SILENCE).await;
    scene.network.weather(Weather::Fine).await;
    let restored = Instant::now();
    let mut answer = [0; 13];
    tokio::time::timeout(SOON, stream.read_exact(&mut answer)).await.expect("it goes on").expect("whole");
    assert_eq!(&answer, b"into the dark");
    println!("silence: the stream went on {:?} after {SILENCE:?} of it", restored.elapsed());
    assert!(!scene.agent.log().contains("the tunnel is lost"), "the same tunnel");
}

async fn transfer_completes_where_one_packet_of_five_is_lost() {
    let scene = Scene::set().await;
    let stream = scene.stream().await;
    scene.network.weather(Weather::LosesOneIn(5)).await;
    let started = Instant::now();
    let (mut from, mut to) = stream.into_split();
    let send = async {
        let sent = bulk::send(Pattern::new(9, BULK), &mut to).await.expect("it is taken");
        to.shutdown().await.expect("the end is taken");
        sent
    };
    let (sent, (length, received)) =
        tokio::join!(send, async { bulk::receive(&mut from).await.expect("it comes back") });
    assert_eq!((length, received), (BULK, sent));
    println!("loss of 20 % each way: {BULK} bytes there and back in {:?}", started.elapsed());
    scene.works().await;
    println!("loss of 20 % each way: and a new request after {:?}", started.elapsed());
}

#[tokio::test]
async fn every_break_is_noticed_in_time_and_healed_in_time() {
    let cases = LocalSet::new();
    let mut running = [
        cases.spawn_local(cut_is_noticed_and_the_agent_is_back_with_its_network(Cut::Cable)),
        cases.spawn_local(cut_is_noticed_and_the_agent_is_back_with_its_network(Cut::Packets)),
        cases.spawn_local(new_address_costs_a_tunnel_and_no_more_than_the_time_to_notice()),
        cases.spawn_local(agent_that_notices_first_is_back_with_its_network()),
        cases.spawn_local(stream_survives_ten_seconds_of_silence()),
        cases.spawn_local(transfer_completes_where_one_packet_of_five_is_lost()),
    ];
    let ended = cases.run_until(join_all(&mut running)).await;
    let failed: Vec<_> = ended.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}");
}
