//! The admin API, as far as the harness needs it: plain HTTP over the loopback interface, one connection a request.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::id::EdgeName;
use shared::secret::Secret;
use shared::wire::admin::{CreateEdge, EdgeCreated, Tunnel, TunnelState};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::process::{PAUSE, START};

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Check-in interval of the harness's edge, in seconds: the shortest there is, since only the first check-ins are waited
/// for.
const INTERVAL_S: u32 = 1;

/// An admin of one gateway.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where the gateway serves its API.
    pub api: SocketAddr,
    /// Its API token.
    pub token: Secret<String>,
}

impl Admin {
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

    /// Asks for the edge's tunnel until it is open.
    ///
    /// # Errors
    /// If the gateway refuses, or the tunnel takes more than a minute.
    pub async fn open_tunnel(&self, name: &EdgeName) -> Result<()> {
        let path = format!("/api/v1/edges/{name}/tunnel");
        let begun = Instant::now();
        loop {
            let tunnel: Tunnel = self.call(Method::POST, &path, None::<&()>).await?;
            if tunnel.state == TunnelState::Open {
                return Ok(());
            }
            if begun.elapsed() > START {
                bail!("the tunnel is still {:?} after {START:?}", tunnel.state);
            }
            sleep(PAUSE).await;
        }
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
            let stream = TcpStream::connect(self.api).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
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
