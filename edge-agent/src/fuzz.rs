//! What outsiders can send to the agent, as targets for the fuzzer: see [`shared::fuzz`]. Compiled with the feature `fuzz`
//! only.

use std::path::Path;

use shared::engine::EngineContainer;
use shared::fuzz::Target;
use shared::fuzz_targets;
use shared::wire::snapshot::Container;

use crate::config::File;
use crate::services::{self, Service};

/// Those of this crate.
pub const TARGETS: &[Target] = fuzz_targets![agent_config, engine_containers];

/// A configuration file, and what it exposes.
pub fn agent_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(file) = shared::toml_file::parse::<File>(text, Path::new("agent.toml")) else { return };
    let services: Vec<Service> = file.expose.iter().filter_map(|text| text.parse().ok()).collect();
    for service in &services {
        let text = format!("{}={}", service.name, service.target);
        assert_eq!(text.parse().as_ref(), Ok(service), "a service survives its text");
    }
    let _ = services::check(&services);
}

/// The containers that an engine lists: what leaves the site of them is bounded, and does nothing to a terminal but be text.
pub fn engine_containers(bytes: &[u8]) {
    let Ok(listed) = serde_json::from_slice::<Vec<EngineContainer>>(bytes) else { return };
    for container in listed.into_iter().map(Container::from) {
        let texts = container.labels.iter().flat_map(|(name, value)| [name, value]);
        for text in texts.chain([&container.command]) {
            assert!(text.chars().count() <= 257, "{} characters", text.chars().count());
        }
    }
}
