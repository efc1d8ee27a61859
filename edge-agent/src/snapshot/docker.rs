//! A Docker Engine behind an exposed service: what it runs and has, read through its API.
//!
//! Answers are parsed into what a snapshot lists and nothing else: environments never get past the parser, commands and
//! labels not without being scrubbed.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use shared::engine::EngineContainer;
use shared::wire::snapshot::{Container, Docker, Image, Network, Volume};
use tokio::time::timeout;

use super::{PROBE_TIMEOUT, may_be_docker};
use crate::services::{Service, Target};

/// Largest answer that is read: some ten thousand containers.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// Longest wait for one answer. An engine under load takes seconds to list its images.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The engine behind `service` and what could not be read of it; `None` if something else is there, or nothing.
pub async fn engine(service: &Service) -> Option<(Docker, Vec<String>)> {
    if !may_be_docker(service) {
        return None;
    }
    let mut engine = open(service).await?;
    let mut problems = Vec::new();
    let mut problem = |what: &str, error: String| {
        problems.push(format!("{what} of the Docker Engine behind {}: {error}", service.name));
    };
    let mut docker = Docker { service: service.name.to_string(), ..Docker::default() };
    match engine.read::<Version>("/version").await {
        Ok(version) => (docker.version, docker.api_version) = (version.version, version.api_version),
        Err(error) => problem("version", error),
    }
    match engine.read::<Vec<EngineContainer>>("/containers/json?all=1").await {
        Ok(containers) => docker.containers = containers.into_iter().map(Container::from).collect(),
        Err(error) => problem("containers", error),
    }
    match engine.read::<Vec<EngineImage>>("/images/json").await {
        Ok(images) => docker.images = images.into_iter().map(Image::from).collect(),
        Err(error) => problem("images", error),
    }
    match engine.read::<EngineVolumes>("/volumes").await {
        Ok(all) => docker.volumes = all.volumes.unwrap_or_default().into_iter().map(Volume::from).collect(),
        Err(error) => problem("volumes", error),
    }
    match engine.read::<Vec<EngineNetwork>>("/networks").await {
        Ok(networks) => docker.networks = networks.into_iter().map(Network::from).collect(),
        Err(error) => problem("networks", error),
    }
    Some((docker, problems))
}

struct Engine {
    sender: SendRequest<Empty<Bytes>>,
    host: String,
}

/// A connection to it, if it answers a ping the way that an engine does.
async fn open(service: &Service) -> Option<Engine> {
    let stream = service.target.connect(PROBE_TIMEOUT).await.ok()?;
    let host = match &service.target {
        Target::Tcp(address) | Target::Http(address) => address.to_string(),
        Target::Unix(_) => "docker".to_owned(),
    };
    let (sender, connection) = timeout(PROBE_TIMEOUT, handshake(TokioIo::new(stream))).await.ok()?.ok()?;
    tokio::spawn(connection);
    let mut engine = Engine { sender, host };
    let answer =
        timeout(PROBE_TIMEOUT, engine.sender.send_request(engine.request("/_ping"))).await.ok()?.ok()?;
    let is_engine = answer.status() == StatusCode::OK && answer.headers().contains_key("api-version");
    // The body ("OK") has to be read before the connection takes the next request.
    let body = Limited::new(answer.into_body(), 1024).collect();
    timeout(PROBE_TIMEOUT, body).await.ok()?.ok()?;
    is_engine.then_some(engine)
}

impl Engine {
    fn request(&self, path: &'static str) -> Request<Empty<Bytes>> {
        Request::get(path)
            .header(header::HOST, self.host.as_str())
            .body(Empty::new())
            .expect("a fixed path and a host that was parsed")
    }

    async fn read<T: DeserializeOwned>(&mut self, path: &'static str) -> Result<T, String> {
        let exchange = async {
            self.sender.ready().await.map_err(|error| error.to_string())?;
            let request = self.request(path);
            let answer = self.sender.send_request(request).await.map_err(|error| error.to_string())?;
            if answer.status() != StatusCode::OK {
                return Err(format!("answered {}", answer.status()));
            }
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect();
            let body = body.await.map_err(|error| error.to_string())?.to_bytes();
            serde_json::from_slice(&body).map_err(|error| format!("not understood: {error}"))
        };
        timeout(ANSWER_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
    api_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EngineImage {
    id: String,
    /// Null for images without a tag.
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    size: i64,
    #[serde(default)]
    created: i64,
}

impl From<EngineImage> for Image {
    fn from(image: EngineImage) -> Self {
        Self {
            id: image.id,
            tags: image.repo_tags.unwrap_or_default(),
            size: u64::try_from(image.size).unwrap_or_default(),
            created: image.created,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EngineVolumes {
    /// Null when there is none.
    volumes: Option<Vec<EngineVolume>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EngineVolume {
    name: String,
    #[serde(default)]
    driver: String,
}

impl From<EngineVolume> for Volume {
    fn from(volume: EngineVolume) -> Self {
        Self { name: volume.name, driver: volume.driver }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EngineNetwork {
    id: String,
    name: String,
    #[serde(default)]
    driver: String,
}

impl From<EngineNetwork> for Network {
    fn from(network: EngineNetwork) -> Self {
        Self { id: network.id, name: network.name, driver: network.driver }
    }
}
