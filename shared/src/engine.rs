//! What a Docker Engine's API says of containers, for both who read it: the agent for a snapshot, the gateway through a
//! tunnel.
//!
//! The rule: environment, labels and commands of containers never get past these types.

use serde::Deserialize;

use crate::wire::snapshot::Container;

/// A line of `GET /containers/json`, as far as it is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EngineContainer {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    image: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    created: i64,
    #[serde(default)]
    ports: Vec<EnginePort>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EnginePort {
    #[serde(default, rename = "IP")]
    ip: Option<String>,
    private_port: u16,
    #[serde(default)]
    public_port: Option<u16>,
    #[serde(default, rename = "Type")]
    protocol: String,
}

impl From<EngineContainer> for Container {
    fn from(container: EngineContainer) -> Self {
        let name = container.names.into_iter().next().unwrap_or_default();
        Self {
            id: container.id,
            // The engine puts a slash in front, from the time of linked containers.
            name: name.trim_start_matches('/').to_owned(),
            image: container.image,
            state: container.state,
            status: container.status,
            created: container.created,
            ports: container.ports.iter().filter_map(published).collect(),
        }
    }
}

/// As `docker ps` writes it; ports that are not published are left out.
fn published(port: &EnginePort) -> Option<String> {
    let public = port.public_port?;
    let ip = port.ip.as_deref().unwrap_or_default();
    let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    Some(format!("{ip}:{public}->{}/{}", port.private_port, port.protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_read_as_people_know_it_and_without_what_may_be_secret() {
        let text = r#"{"Id":"4f","Names":["/web","/other/web"],"Image":"nginx","State":"running","Status":"Up 2 hours",
            "Created":1795000000,"Command":"nginx --password x","Labels":{"token":"x"},"Ports":[
                {"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"PrivatePort":443,"Type":"tcp"}]}"#;
        let container: EngineContainer = serde_json::from_str(text).expect("a container");
        let container = Container::from(container);
        assert_eq!((container.name.as_str(), container.state.as_str()), ("web", "running"));
        assert_eq!(container.ports, ["[::]:8080->80/tcp"]);
    }
}
