//! The admin API, as far as the harness needs it: one connection a request, plain over the loopback interface or TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::fingerprint::TlsFingerprint;
use shared::id::EdgeName;
use shared::secret::Secret;
use shared::tls;
use shared::wire::admin::{
    BULK_EDGES, CreateEdge, CreateEdges, EdgeCreated, EdgesCreated, Enrolled, MAX_BULK, Settings, Tunnel,
    TunnelState,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::process::{PAUSE, START};

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Check-in interval of the harness's edge, in seconds: the shortest there is, since only the first check-ins are waited
/// for.
const INTERVAL_S: u32 = 1;

/// A connection to the API, plain or not.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Any of them.
pub type BoxedIo = Box<dyn Io>;

/// An admin of one gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admin {
    api: SocketAddr,
    token: Secret<String>,
    tls: Option<Arc<ClientConfig>>,
}

impl Admin {
    /// Over plain HTTP, for a gateway on this machine.
    pub fn plain(api: SocketAddr, token: Secret<String>) -> Self {
        Self { api, token, tls: None }
    }

    /// The same over TLS, with the pinned key: join tokens send agents to where the gateway was asked for them.
    ///
    /// # Errors
    /// If there is no TLS on this machine.
    pub fn over_tls(&self, pin: TlsFingerprint) -> Result<Self> {
        Ok(Self { tls: Some(tls::client_config(&[pin], None)?), ..self.clone() })
    }

    /// Makes an edge.
    ///
    /// # Errors
    /// If the gateway refuses.
    pub async fn create(&self, name: &EdgeName) -> Result<EdgeCreated> {
        let edge = CreateEdge {
            name: name.clone(),
            cluster: false,
            interval_s: Some(INTERVAL_S),
            idle_timeout_s: None,
            tags: Vec::new(),
        };
        self.call(Method::POST, "/api/v1/edges", Some(&edge)).await
    }

    /// Makes edges with these names, all alike, as many at a time as the gateway takes.
    ///
    /// # Errors
    /// If the gateway refuses one of them.
    pub async fn enrol(
        &self,
        names: &[String],
        interval_s: u32,
        idle_timeout_s: u32,
    ) -> Result<Vec<Enrolled>> {
        let mut all = Vec::with_capacity(names.len());
        for some in names.chunks(MAX_BULK) {
            let edges = CreateEdges {
                names: some.to_vec(),
                cluster: false,
                interval_s: Some(interval_s),
                idle_timeout_s: Some(idle_timeout_s),
                tags: Vec::new(),
            };
            let answer: EdgesCreated = self.call(Method::POST, BULK_EDGES, Some(&edges)).await?;
            if let Some(refused) = answer.refused.first() {
                bail!("the gateway refuses to enrol {}: {}", refused.name, refused.detail);
            }
            all.extend(answer.created);
        }
        ensure!(all.len() == names.len(), "{} edges were asked for, {} were made", names.len(), all.len());
        Ok(all)
    }

    /// Changes settings.
    ///
    /// # Errors
    /// If the gateway refuses.
    pub async fn set(&self, settings: &Settings) -> Result<Settings> {
        self.call(Method::PATCH, "/api/v1/settings", Some(settings)).await
    }

    /// Raises an edge's flag.
    ///
    /// # Errors
    /// If the gateway refuses.
    pub async fn raise(&self, name: &EdgeName) -> Result<Tunnel> {
        self.call(Method::POST, &tunnel(name), None::<&()>).await
    }

    /// Lowers it, and closes the tunnel.
    ///
    /// # Errors
    /// If the gateway refuses.
    pub async fn lower(&self, name: &EdgeName) -> Result<Tunnel> {
        self.call(Method::DELETE, &tunnel(name), None::<&()>).await
    }

    /// Asks for the edge's tunnel until it is open.
    ///
    /// # Errors
    /// If the gateway refuses, or the tunnel takes more than a minute.
    pub async fn open_tunnel(&self, name: &EdgeName) -> Result<()> {
        let begun = Instant::now();
        loop {
            let tunnel = self.raise(name).await?;
            if tunnel.state == TunnelState::Open {
                return Ok(());
            }
            if begun.elapsed() > START {
                bail!("the tunnel is still {:?} after {START:?}", tunnel.state);
            }
            sleep(PAUSE).await;
        }
    }

    /// The request that turns a connection to the API into a stream. A secret: it holds the API token.
    pub fn upgrade_request(&self, path: &str) -> Secret<String> {
        Secret::new(format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: upgrade\r\nupgrade: tcp\r\n\r\n",
            self.api,
            self.token.expose(),
        ))
    }

    /// A connection to the API.
    ///
    /// # Errors
    /// If there is none.
    pub async fn connect(&self) -> Result<BoxedIo> {
        let stream = TcpStream::connect(self.api).await?;
        stream.set_nodelay(true)?;
        let Some(config) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::from(self.api.ip());
        Ok(Box::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?))
    }

    async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<A> {
        let asking = async {
            let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
            let request = Request::builder()
                .method(method.clone())
                .uri(path)
                .header(header::HOST, self.api.to_string())
                .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose()))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(body)))?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(self.connect().await?)).await?;
            let driving = tokio::spawn(connection);
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let bytes = answer.into_body().collect().await?.to_bytes();
            driving.abort();
            if !status.is_success() {
                bail!("{status}: {}", String::from_utf8_lossy(&bytes));
            }
            Ok(serde_json::from_slice(&bytes)?)
        };
        let answer = timeout(ANSWER, asking).await;
        answer.context("no answer in time").flatten().with_context(|| format!("{method} {path}"))
    }
}

fn tunnel(name: &EdgeName) -> String {
    format!("/api/v1/edges/{name}/tunnel")
}
