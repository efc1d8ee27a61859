//! An agent that says whatever a test wants: raw check-ins, and SSH logins with credentials of any origin.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{Method, StatusCode};
use russh::client::{self, Handle};
use russh::keys::PublicKeyOrCertificate;
use shared::envelope::{self, Credentials};
use shared::fingerprint::HostKeyFingerprint;
use shared::id::{EdgeId, EdgeKey, InstanceId};
use shared::wire::admin::EdgeCreated;
use shared::wire::check_in::{
    Answer, Authorization, CheckIn, Hello, INSTANCE_HEADER, Offer, PATH, PROTOCOL_VERSION, SNAPSHOT_PATH,
    Service, ServiceKind, TunnelState,
};
use shared::wire::snapshot::Snapshot;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::http::{self, Http, full};
use crate::wait::{SOON, until};

/// A login that takes longer than this was not answered.
const LOGIN_DEADLINE: Duration = Duration::from_secs(20);

/// One instance that checks in by hand.
#[derive(Clone, Debug)]
pub struct Liar {
    http: Http,
    /// Who it claims to be.
    pub authorization: Authorization,
    /// Which instance it claims to be.
    pub instance: InstanceId,
}

impl Liar {
    /// With the edge's key and an edge ID of its own.
    pub fn new(http: &Http, edge: &EdgeCreated) -> Self {
        let key: EdgeKey = edge.key.parse().expect("the gateway makes good keys");
        let authorization = Authorization { edge_id: EdgeId::random(), key };
        Self { http: http.anonymous(), authorization, instance: InstanceId::random() }
    }

    /// Another instance with the same edge ID.
    pub fn another_instance(&self) -> Self {
        Self { instance: InstanceId::random(), ..self.clone() }
    }

    /// A hello with these TCP services.
    pub fn hello(services: &[&str]) -> CheckIn {
        let service = |name: &&str| Service {
            name: name.parse().expect("tests use good names"),
            kind: ServiceKind::Tcp,
            target: "127.0.0.1:9".into(),
        };
        let hello = Hello {
            agent: "0.0.0-liar".into(),
            protocol: PROTOCOL_VERSION,
            hostname: "liar".into(),
            services: services.iter().map(service).collect(),
            tunnel: TunnelState::Closed,
        };
        CheckIn { hello: Some(hello), failed: None }
    }

    /// One check-in, whatever the answer.
    pub async fn check_in(&self, body: &CheckIn) -> http::Answer {
        self.try_check_in(body).await.unwrap_or_else(|error| panic!("no answer to a check-in: {error}"))
    }

    /// One check-in of a gateway that may be dead.
    pub async fn try_check_in(&self, body: &CheckIn) -> std::io::Result<http::Answer> {
        let request = self
            .http
            .request(Method::POST, PATH)
            .header(AUTHORIZATION, self.authorization.expose())
            .header(INSTANCE_HEADER, self.instance.to_string())
            .header(CONTENT_TYPE, "application/json");
        let request = request.body(full(serde_json::to_vec(body).map_err(std::io::Error::other)?));
        self.http.send(request.map_err(std::io::Error::other)?).await
    }

    /// Puts a snapshot, whatever it says.
    pub async fn put_snapshot(&self, snapshot: Snapshot) -> http::Answer {
        let answer = self.try_put_snapshot(snapshot).await;
        answer.unwrap_or_else(|error| panic!("no answer to a snapshot: {error}"))
    }

    /// The same to a gateway that may be dead.
    pub async fn try_put_snapshot(&self, snapshot: Snapshot) -> std::io::Result<http::Answer> {
        let gzip = edge_agent::snapshot::encode(snapshot).expect("a snapshot of strings");
        let request = self
            .http
            .request(Method::POST, SNAPSHOT_PATH)
            .header(AUTHORIZATION, self.authorization.expose())
            .header(INSTANCE_HEADER, self.instance.to_string())
            .header(CONTENT_ENCODING, "gzip")
            .header(CONTENT_TYPE, "application/json")
            .body(full(gzip))
            .expect("all of these are visible ASCII");
        self.http.send(request).await
    }

    /// Checks in, saying hello, until the answer carries an offer. The flag must be up.
    pub async fn offer(&self, services: &[&str]) -> Offer {
        until(SOON, "an offer", async || {
            let answer = self.check_in(&Self::hello(services)).await;
            if answer.status == StatusCode::NO_CONTENT {
                return None;
            }
            answer.expect(200).json::<Answer>().offer
        })
        .await
    }

    /// What the offer's envelope holds.
    ///
    /// # Panics
    /// If it was not sealed for this edge ID.
    pub fn open(&self, offer: &Offer) -> Credentials {
        envelope::open(&offer.credentials, &self.authorization.edge_id, &offer.id)
            .expect("sealed for this edge")
    }

    /// Logs in with an offer.
    pub async fn login(&self, offer: &Offer) -> Option<Ssh> {
        Ssh::login(offer.ssh.parse().expect("an address"), &self.open(offer)).await
    }
}

/// An SSH connection to the tunnel server, logged in.
pub struct Ssh {
    /// To ask for forwards and other things.
    pub handle: Handle<Listener>,
    /// Streams that the gateway opened, with the service's name that it gave.
    pub streams: mpsc::Receiver<(String, russh::Channel<client::Msg>)>,
    /// Host key of the server.
    pub host_key: HostKeyFingerprint,
}

/// What a liar does with what the server opens: hands it to the test.
#[derive(Debug)]
pub struct Listener {
    host_key: mpsc::Sender<HostKeyFingerprint>,
    streams: mpsc::Sender<(String, russh::Channel<client::Msg>)>,
}

impl client::Handler for Listener {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let _ = self.host_key.send(HostKeyFingerprint::of(key)).await;
        Ok(true)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: russh::Channel<client::Msg>,
        connected_address: &str,
        _connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: client::ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        let _ = self.streams.send((connected_address.to_owned(), channel)).await;
        Ok(())
    }
}

impl Ssh {
    /// Logs in; `None` if the server refuses or hangs up.
    pub async fn login(address: SocketAddr, credentials: &Credentials) -> Option<Self> {
        Self::login_over(TcpStream::connect(address).await.ok()?, credentials).await
    }

    /// The same over a TCP connection that is there.
    pub async fn login_over(stream: TcpStream, credentials: &Credentials) -> Option<Self> {
        let (key_sender, mut keys) = mpsc::channel(4);
        let (stream_sender, streams) = mpsc::channel(64);
        let listener = Listener { host_key: key_sender, streams: stream_sender };
        let config = Arc::new(client::Config::default());
        let login = async {
            let mut handle = client::connect_stream(config, stream, listener).await.ok()?;
            let result = handle
                .authenticate_password(credentials.username.clone(), credentials.password.expose().clone())
                .await
                .ok()?;
            result.success().then_some(handle)
        };
        let handle =
            tokio::time::timeout(LOGIN_DEADLINE, login).await.expect("the server answers a login")?;
        let host_key = keys.recv().await?;
        Some(Self { handle, streams, host_key })
    }

    /// Waits until the server has closed the connection.
    pub async fn closed(&self) {
        until(SOON, "the server closes the connection", async || self.handle.is_closed().then_some(())).await;
    }
}
