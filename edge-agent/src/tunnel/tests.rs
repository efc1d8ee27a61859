use russh::keys::{Algorithm, PrivateKey};
use russh::server::{self, Auth, Session};
use russh::{ChannelOpenFailure, MethodKind, MethodSet};
use shared::id::OfferId;
use shared::secret::Secret;
use shared::tunnel::carry::{Flow, Meter, carry};
use shared::tunnel::credit::Terms;
use shared::tunnel::dial_failure::DialFailure;
use shared::tunnel::pipe::{UserEnd, pipe};
use shared::tunnel::pool::{Pool, WindowBudget};
use shared::tunnel::socket::Backlog;
use shared::tunnel::ssh::{CHANNEL_QUEUE, MAX_PACKET, WINDOW, limits, preferred, terms};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const ATTEMPT: Attempt = Attempt(1);
const IDLE_TIMEOUT_S: u32 = 300;
/// Longest wait of a test for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A tunnel server that takes one user name and one password, and hands the tunnel to the test.
struct FakeGateway {
    ssh: String,
    host_key: HostKeyFingerprint,
    control: mpsc::Receiver<(server::Handle, Vec<(String, u32)>)>,
}

struct FakeHandler {
    /// The highest version of the control channel that it knows.
    version: u32,
    forwards: Vec<(String, u32)>,
    control: mpsc::Sender<(server::Handle, Vec<(String, u32)>)>,
}

impl server::Handler for FakeHandler {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(if (user, password) == ("user", "pass:word") { Auth::Accept } else { Auth::reject() })
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, russh::Error> {
        if address == CONTROL_NAME && *port > self.version {
            return Ok(false);
        }
        self.forwards.push((address.to_owned(), *port));
        if address == CONTROL_NAME {
            self.control.try_send((session.handle(), self.forwards.clone())).expect("room");
        }
        Ok(address != "refused")
    }
}

impl FakeGateway {
    async fn start() -> Self {
        Self::of_version(CONTROL_VERSION).await
    }

    async fn of_version(version: u32) -> Self {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).expect("a key");
        let host_key = HostKeyFingerprint::of(key.public_key());
        let config = Arc::new(server::Config {
            keys: vec![key],
            methods: MethodSet::from(&[MethodKind::Password][..]),
            preferred: preferred(),
            limits: limits(),
            window_size: WINDOW,
            maximum_packet_size: MAX_PACKET,
            channel_buffer_size: CHANNEL_QUEUE,
            auth_rejection_time: Duration::ZERO,
            ..server::Config::default()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let ssh = listener.local_addr().expect("bound").to_string();
        let (sender, control) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let handler = FakeHandler { version, forwards: vec![], control: sender.clone() };
                if let Ok(session) = server::run_stream(Arc::clone(&config), socket, handler).await {
                    tokio::spawn(session);
                }
            }
        });
        Self { ssh, host_key, control }
    }

    fn site(&self, services: &[String]) -> Site {
        Site {
            dialer: Dialer::direct(),
            edge_id: EdgeId::from_bytes([1; 16]),
            host_keys: vec![self.host_key],
            services: services.iter().map(|text| text.parse().expect("a service")).collect(),
        }
    }

    fn offer(&self, password: &str) -> Offer {
        let id = OfferId::random();
        let credentials = Credentials { username: "user".into(), password: Secret::from(password) };
        let sealed = envelope::seal(&credentials, &EdgeId::from_bytes([1; 16]), &id);
        Offer { id, ssh: self.ssh.clone(), credentials: sealed, expires_in_s: 30 }
    }

    /// Waits for the agent's control forward and welcomes it.
    async fn welcome(&mut self) -> Welcomed {
        let (handle, forwards) = soon(self.control.recv()).await.expect("a control forward");
        let version = forwards.last().expect("the control forward").1;
        let channel = soon(handle.channel_open_forwarded_tcpip(CONTROL_NAME, version, "", 0)).await;
        let (reader, mut writer) = tokio::io::split(channel.expect("accepted").into_stream());
        let welcome = ToAgent::Welcome { idle_timeout_s: IDLE_TIMEOUT_S };
        control::write(&mut writer, &welcome).await.expect("taken");
        let terms = terms(version).expect("a version that there is");
        Welcomed { handle, forwards, terms, reader: ControlReader::new(reader), writer }
    }
}

/// The gateway's end of an open tunnel.
struct Welcomed {
    handle: server::Handle,
    forwards: Vec<(String, u32)>,
    terms: Terms,
    reader: ControlReader<ReadHalf<ChannelStream<server::Msg>>>,
    writer: WriteHalf<ChannelStream<server::Msg>>,
}

impl Welcomed {
    async fn stream(&self, service: &str) -> Result<UserEnd, DialFailure> {
        match soon(self.handle.channel_open_forwarded_tcpip(service, FORWARD_PORT, "", 0)).await {
            Ok(channel) => {
                let (carried, user) = pipe();
                let flow = Flow::Credit(self.terms, Arc::new(Pool::new(WindowBudget::new(0))));
                tokio::spawn(async move {
                    carry(channel, carried, flow, &Backlog::default(), &Meter::default()).await
                });
                Ok(user)
            }
            Err(russh::Error::ChannelOpenFailure(failure)) => Err(DialFailure::from_open_failure(&failure)),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it comes in time")
}

/// Starts a tunnel; its events come out.
fn start(site: Site, offer: Offer) -> (Tunnel, mpsc::Receiver<(Attempt, TunnelEvent)>) {
    let (events, happened) = mpsc::channel(64);
    (Tunnel::start(ATTEMPT, offer, Arc::new(site), events), happened)
}

async fn next(events: &mut mpsc::Receiver<(Attempt, TunnelEvent)>) -> TunnelEvent {
    let (attempt, event) = soon(events.recv()).await.expect("an event");
    assert_eq!(attempt, ATTEMPT);
    event
}

/// A tunnel that is open.
async fn open(services: &[String]) -> (Tunnel, mpsc::Receiver<(Attempt, TunnelEvent)>, Welcomed) {
    open_to(FakeGateway::start().await, services).await
}

async fn open_to(
    mut gateway: FakeGateway,
    services: &[String],
) -> (Tunnel, mpsc::Receiver<(Attempt, TunnelEvent)>, Welcomed) {
    let (tunnel, mut events) = start(gateway.site(services), gateway.offer("pass:word"));
    let welcomed = gateway.welcome().await;
    let idle_timeout = Duration::from_secs(IDLE_TIMEOUT_S.into());
    assert_eq!(next(&mut events).await, TunnelEvent::Opened { idle_timeout });
    (tunnel, events, welcomed)
}

async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    address.to_string()
}

#[tokio::test]
async fn gateway_of_the_version_before_gets_the_terms_that_it_knows() {
    let services = [format!("echo={}", echo().await)];
    let gateway = FakeGateway::of_version(CONTROL_VERSION_FIXED).await;
    let (_tunnel, _events, welcomed) = open_to(gateway, &services).await;
    assert_eq!((welcomed.forwards[1].1, welcomed.terms), (CONTROL_VERSION_FIXED, Terms::FIXED));
    let stream = welcomed.stream("echo").await.expect("a stream");
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent = vec![7; 4_000_000];
    let writing = async {
        writer.write_all(&sent).await.expect("taken");
        writer.shutdown().await.expect("half-closed");
    };
    let mut received = Vec::new();
    let ((), read) = soon(async { tokio::join!(writing, reader.read_to_end(&mut received)) }).await;
    read.expect("an orderly end");
    assert_eq!(received.len(), 4_000_000);
}

#[tokio::test]
async fn services_are_announced_before_control_and_carried_both_ways_to_the_end() {
    let services = [format!("echo={}", echo().await), "web=http://127.0.0.1:1".into()];
    let (_tunnel, mut events, welcomed) = open(&services).await;
    let names: Vec<_> = welcomed.forwards.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["echo", "web", CONTROL_NAME]);
    assert_eq!(welcomed.forwards[2].1, CONTROL_VERSION);

    let stream = welcomed.stream("echo").await.expect("it listens");
    assert_eq!(next(&mut events).await, TunnelEvent::StreamStarted);
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent: Vec<u8> = (0..3_000_000u32).map(|number| number as u8).collect();
    let expected = sent.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(&sent).await.expect("taken");
        writer.shutdown().await.expect("half-closed");
    });
    let mut received = Vec::new();
    soon(reader.read_to_end(&mut received)).await.expect("an orderly end");
    assert!(received == expected, "{} bytes came back", received.len());
    writing.await.expect("no panic");
    assert_eq!(next(&mut events).await, TunnelEvent::StreamEnded);
}

#[tokio::test]
async fn services_that_can_not_be_reached_are_refused_with_the_reason() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let services = [format!("gone={gone}"), "sock=unix:///does/not/exist".into()];
    let (_tunnel, _events, welcomed) = open(&services).await;
    for (name, failure) in [
        ("gone", DialFailure::Refused),
        ("sock", DialFailure::NoSuchSocket),
        ("other", DialFailure::NoSuchService),
        (CONTROL_NAME, DialFailure::NoSuchService),
    ] {
        assert_eq!(welcomed.stream(name).await.err(), Some(failure), "{name}");
    }
}

#[tokio::test]
async fn gateway_may_open_nothing_but_services() {
    let (_tunnel, _events, welcomed) = open(&[]).await;
    let refused = |result: Result<_, russh::Error>| {
        matches!(
            result.map(drop),
            Err(russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited))
        )
    };
    let handle = &welcomed.handle;
    assert!(refused(soon(handle.channel_open_session()).await));
    assert!(refused(soon(handle.channel_open_direct_tcpip("127.0.0.1", 22, "", 0)).await));
    assert!(refused(soon(handle.channel_open_x11("127.0.0.1", 22)).await));
    assert!(refused(soon(handle.channel_open_agent()).await));
    assert!(refused(soon(handle.channel_open_forwarded_streamlocal("/x")).await));
}

#[tokio::test]
async fn what_the_gateway_says_becomes_events_and_closing_is_asked_for() {
    let (tunnel, mut events, mut welcomed) = open(&[]).await;
    for (message, event) in [
        (ToAgent::Hold, TunnelEvent::Held),
        (ToAgent::Snapshot, TunnelEvent::SnapshotWanted),
        (ToAgent::Welcome { idle_timeout_s: 7 }, TunnelEvent::IdleTimeout(Duration::from_secs(7))),
        (ToAgent::CloseRefused, TunnelEvent::CloseRefused),
        (ToAgent::CloseGranted, TunnelEvent::CloseGranted),
    ] {
        control::write(&mut welcomed.writer, &message).await.expect("taken");
        assert_eq!(next(&mut events).await, event);
    }
    tunnel.request(Request::AskToClose);
    let asked = soon(welcomed.reader.read::<FromAgent>()).await.expect("well-formed");
    assert_eq!(asked, Some(FromAgent::Closing));
    tunnel.request(Request::Close);
    assert_eq!(next(&mut events).await, TunnelEvent::Ended { reason: "closed".into() });
    assert!(soon(events.recv()).await.is_none(), "nothing is left of it");
}

#[tokio::test]
async fn living_tunnel_survives_a_probe() {
    let (tunnel, mut events, mut welcomed) = open(&[]).await;
    tunnel.request(Request::Probe);
    control::write(&mut welcomed.writer, &ToAgent::Hold).await.expect("taken");
    assert_eq!(next(&mut events).await, TunnelEvent::Held);
}

#[tokio::test]
async fn tunnel_ends_with_the_gateways_words_and_its_streams_with_it() {
    let (_tunnel, mut events, welcomed) = open(&[format!("echo={}", echo().await)]).await;
    let mut stream = welcomed.stream("echo").await.expect("it listens");
    assert_eq!(next(&mut events).await, TunnelEvent::StreamStarted);
    stream.write_all(b"x").await.expect("taken");
    let told = welcomed.handle.disconnect(Disconnect::ByApplication, "revoked".into(), String::new()).await;
    told.expect("sent");
    assert_eq!(next(&mut events).await, TunnelEvent::StreamEnded);
    assert_eq!(next(&mut events).await, TunnelEvent::Dismissed { reason: "revoked".into() });
}

#[tokio::test]
async fn wrong_host_key_is_a_lasting_failure_that_names_both() {
    let gateway = FakeGateway::start().await;
    let pin = HostKeyFingerprint::from_bytes([7; 32]);
    let site = Site { host_keys: vec![pin], ..gateway.site(&[]) };
    let (_tunnel, mut events) = start(site, gateway.offer("pass:word"));
    let TunnelEvent::Failed(failure) = next(&mut events).await else { panic!("a wrong key") };
    assert!(failure.lasting);
    let (pin, shown) = (pin.to_string(), gateway.host_key.to_string());
    assert!(failure.reason.contains(&pin) && failure.reason.contains(&shown), "{}", failure.reason);
}

#[tokio::test]
async fn what_keeps_a_tunnel_from_opening_is_said() {
    let gateway = FakeGateway::start().await;
    let good = gateway.offer("pass:word");
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    for (offer, word) in [
        (gateway.offer("used"), "refused the offer's credentials"),
        (Offer { id: OfferId::random(), ..good.clone() }, "not sealed for"),
        (Offer { ssh: "nowhere".into(), ..good.clone() }, "HOST:PORT"),
        (Offer { ssh: gone.to_string(), ..good }, "refused"),
    ] {
        let (_tunnel, mut events) = start(gateway.site(&[]), offer);
        let TunnelEvent::Failed(failure) = next(&mut events).await else { panic!("{word}") };
        assert!(!failure.lasting && failure.reason.contains(word), "{}", failure.reason);
    }
    let (_tunnel, mut events) = start(gateway.site(&["refused=h:1".into()]), gateway.offer("pass:word"));
    let TunnelEvent::Failed(failure) = next(&mut events).await else { panic!("a refused forward") };
    assert!(failure.reason.contains("forwards"), "{}", failure.reason);
}
