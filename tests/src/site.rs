//! The usual scene: a gateway, one edge named `shop`, and its agent with some services, checking in.

use std::fmt::Display;
use std::net::SocketAddr;

use shared::wire::admin::{CreateEdge, EdgeCreated, TunnelState};
use tokio::net::TcpStream;

use crate::agent::{Agent, AgentOptions};
use crate::gateway::{Gateway, Listen};
use crate::http::{Answer, Http};
use crate::wait::{SOON, until};

/// Name of the edge.
pub const EDGE: &str = "shop";

/// A gateway, an edge and its agent.
#[derive(Debug)]
pub struct Site {
    /// The gateway.
    pub gateway: Gateway,
    /// What the admin was told when the edge was made.
    pub edge: EdgeCreated,
    /// The agent, online.
    pub agent: Agent,
}

impl Site {
    /// Starts all with these services.
    pub async fn start(services: &[(&str, &dyn Display)]) -> Self {
        Self::start_with(services, |_| ()).await
    }

    /// As [`Site::start`], with changes to the edge.
    pub async fn start_with(services: &[(&str, &dyn Display)], change: impl FnOnce(&mut CreateEdge)) -> Self {
        Self::at(Gateway::start().await, services, change, |agent| agent).await
    }

    /// At a gateway that runs already, with changes to the edge and to how its agent is started.
    pub async fn at(
        gateway: Gateway,
        services: &[(&str, &dyn Display)],
        change: impl FnOnce(&mut CreateEdge),
        started: impl FnOnce(AgentOptions) -> AgentOptions,
    ) -> Self {
        let edge = gateway.admin.create_with(EDGE, change).await;
        let mut options = AgentOptions::joining(&edge);
        for (name, target) in services {
            options = options.expose(name, target);
        }
        let agent = started(options).start();
        gateway.admin.wait_online(EDGE).await;
        Self { gateway, edge, agent }
    }

    /// One TCP service.
    pub async fn with(service: &str, target: SocketAddr) -> Self {
        Self::start(&[(service, &target)]).await
    }

    /// Waits until its agent has checked in once more.
    pub async fn wait_check_in(&self) {
        let before = self.gateway.admin.edge(EDGE).await.last_seen;
        until(SOON, "the agent checks in again", async || {
            (self.gateway.admin.edge(EDGE).await.last_seen != before).then_some(())
        })
        .await;
    }

    /// The admin's HTTP client.
    pub fn http(&self) -> &Http {
        &self.gateway.admin.http
    }

    /// Raises the flag and waits for the tunnel.
    pub async fn open_tunnel(&self) {
        self.gateway.admin.raise(EDGE).await;
        self.wait_tunnel(TunnelState::Open).await;
    }

    /// Waits until the tunnel is in this state.
    pub async fn wait_tunnel(&self, state: TunnelState) {
        self.gateway.admin.wait_tunnel(EDGE, state).await;
    }

    /// `tidegate connect shop/SERVICE --listen`.
    pub async fn listen(&self, service: &str) -> Listen {
        self.gateway.listen(EDGE, service).await
    }

    /// Path of a service behind the HTTP proxy.
    pub fn proxy(&self, service: &str, rest: &str) -> String {
        Gateway::proxy_path(EDGE, service, rest)
    }

    /// GET through the HTTP proxy.
    pub async fn get(&self, service: &str, rest: &str) -> Answer {
        self.gateway.admin.get(&self.proxy(service, rest)).await
    }
}

impl Listen {
    /// A connection through it.
    pub async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream
    }
}
