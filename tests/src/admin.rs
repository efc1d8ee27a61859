//! The admin API as tests use it: calls that are expected to succeed, and waiting for what they show.

use std::time::Duration;

use hyper::{Method, StatusCode};
use shared::wire::admin::{
    CreateEdge, Edge, EdgeCreated, EdgePage, EdgeStatus, Settings, StoredSnapshot, Tunnel, TunnelState,
};

use crate::http::{Answer, Http};
use crate::wait::{SOON, until};

/// Interval of the edges that tests make: the shortest there is.
pub const INTERVAL_S: u32 = 1;

/// An admin of one gateway.
#[derive(Clone, Debug)]
pub struct Admin {
    /// For requests that are expected to fail, and for everything else.
    pub http: Http,
}

impl Admin {
    /// Creates an edge that is asked to check in every second.
    pub async fn create(&self, name: &str) -> EdgeCreated {
        self.create_with(name, |_| ()).await
    }

    /// As [`Admin::create`], with changes to what is asked for.
    pub async fn create_with(&self, name: &str, change: impl FnOnce(&mut CreateEdge)) -> EdgeCreated {
        let mut edge = CreateEdge {
            name: name.parse().expect("tests use good names"),
            cluster: false,
            interval_s: Some(INTERVAL_S),
            idle_timeout_s: None,
            tags: Vec::new(),
        };
        change(&mut edge);
        self.post("/api/v1/edges", &edge).await.expect(201).json()
    }

    /// One edge.
    pub async fn edge(&self, name: &str) -> Edge {
        self.get(&format!("/api/v1/edges/{name}")).await.expect(200).json()
    }

    /// Every edge, page by page.
    pub async fn edges(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        let mut after = String::new();
        loop {
            let page: EdgePage =
                self.get(&format!("/api/v1/edges?limit=500{after}")).await.expect(200).json();
            edges.extend(page.edges);
            let Some(next) = page.next else { return edges };
            after = format!("&after={next}");
        }
    }

    /// Frees the binding.
    pub async fn dissociate(&self, name: &str) {
        let answer = self.call(Method::POST, &format!("/api/v1/edges/{name}/dissociate")).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }

    /// Deletes the edge.
    pub async fn delete(&self, name: &str) {
        let answer = self.call(Method::DELETE, &format!("/api/v1/edges/{name}")).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }

    /// State of the edge's tunnel.
    pub async fn tunnel(&self, name: &str) -> Tunnel {
        self.get(&format!("/api/v1/edges/{name}/tunnel")).await.expect(200).json()
    }

    /// Raises the flag.
    pub async fn raise(&self, name: &str) {
        let answer = self.call(Method::POST, &format!("/api/v1/edges/{name}/tunnel")).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }

    /// Lowers the flag and closes the tunnel.
    pub async fn lower(&self, name: &str) {
        let answer = self.call(Method::DELETE, &format!("/api/v1/edges/{name}/tunnel")).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }

    /// Changes settings.
    pub async fn set(&self, settings: Settings) {
        self.http
            .send_json(Method::PATCH, "/api/v1/settings", &settings)
            .await
            .expect("an answer")
            .expect(200);
    }

    /// The edge's last snapshot, if there is one.
    pub async fn snapshot(&self, name: &str) -> Option<StoredSnapshot> {
        let answer = self.get(&format!("/api/v1/edges/{name}/snapshot")).await;
        (answer.status != StatusCode::NOT_FOUND).then(|| answer.expect(200).json())
    }

    /// Waits until an agent is bound to the edge.
    pub async fn wait_bound(&self, name: &str) {
        until(SOON, &format!("{name} is bound"), async || self.edge(name).await.bound.then_some(())).await;
    }

    /// Waits until the edge's agent checks in (its tunnel may be open).
    pub async fn wait_online(&self, name: &str) -> Edge {
        until(SOON, &format!("{name} is online"), async || {
            let edge = self.edge(name).await;
            matches!(edge.status, EdgeStatus::Online | EdgeStatus::TunnelOpen).then_some(edge)
        })
        .await
    }

    /// Waits until the edge's tunnel is in this state.
    pub async fn wait_tunnel(&self, name: &str, state: TunnelState) -> Tunnel {
        self.wait_tunnel_within(name, state, SOON).await
    }

    /// As [`Admin::wait_tunnel`], with a deadline of one's own.
    pub async fn wait_tunnel_within(&self, name: &str, state: TunnelState, within: Duration) -> Tunnel {
        until(within, &format!("the tunnel of {name} is {state:?}"), async || {
            let tunnel = self.tunnel(name).await;
            (tunnel.state == state).then_some(tunnel)
        })
        .await
    }

    /// GET, whatever the answer.
    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path).await
    }

    /// A request without a body, whatever the answer.
    pub async fn call(&self, method: Method, path: &str) -> Answer {
        self.http.call(method, path).await.unwrap_or_else(|error| panic!("no answer from {path}: {error}"))
    }

    async fn post(&self, path: &str, body: &impl serde::Serialize) -> Answer {
        let answer = self.http.send_json(Method::POST, path, body).await;
        answer.unwrap_or_else(|error| panic!("no answer from {path}: {error}"))
    }
}
