//! What a Docker Engine's API says of containers, for both who read it: the agent for a snapshot, the gateway through a
//! tunnel.
//!
//! The rule: the environment of a container is not read, and its command and labels leave these types only without what
//! may be a secret ([`crate::scrub`]).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::scrub;
use crate::wire::snapshot::Container;

/// Labels of a container that are shown: compose and swarm set a dozen.
const MAX_LABELS: usize = 64;
/// Characters of a command or a label that are shown.
const MAX_TEXT: usize = 256;

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
    #[serde(default)]
    command: String,
    /// Null for none, from engines that stand in for Docker's.
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
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
            command: short(scrub::command(&container.command)),
            labels: labels(container.labels.unwrap_or_default()),
        }
    }
}

/// Labels without secrets. A label's name tells what to make of its value, and may itself be anything.
fn labels(labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let labels = labels.into_iter().take(MAX_LABELS);
    labels.map(|(name, value)| (short(scrub::text(&name)), short(scrub::value(&name, &value)))).collect()
}

/// Cut where it would fill the snapshot.
fn short(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
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
    fn commands_and_labels_leave_without_their_secrets_and_are_cut() {
        let text = r#"{"Id":"4f","Command":"till --db postgres://till:hunter2@db/shop --port 80","Labels":
            {"com.docker.compose.project":"shop","api.token":"hunter2","note":"NOTE"},"Env":["PASSWORD=hunter2"]}"#;
        let text = text.replace("NOTE", &"x ".repeat(500));
        let container: EngineContainer = serde_json::from_str(&text).expect("a container");
        let container = Container::from(container);
        assert_eq!(container.command, "till --db postgres://till:***@db/shop --port 80");
        assert_eq!(
            (&*container.labels["com.docker.compose.project"], &*container.labels["api.token"]),
            ("shop", "***")
        );
        assert_eq!(container.labels["note"].chars().count(), MAX_TEXT + 1);
        let json = serde_json::to_string(&container).expect("JSON");
        assert!(!json.contains("hunter2"), "{json}");
        let none: EngineContainer = serde_json::from_str(r#"{"Id":"1","Labels":null}"#).expect("a container");
        assert!(Container::from(none).labels.is_empty());
    }

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
