//! The snapshot: what a site looks like. Every part but the agent's own may be missing, with the reason in `problems`:
//! a snapshot that is half there is worth more than none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::check_in::Service;

/// Largest snapshot on the wire, in bytes of compressed JSON.
pub const MAX_COMPRESSED: usize = 1024 * 1024;
/// Largest snapshot, in bytes of JSON.
pub const MAX_JSON: usize = 8 * 1024 * 1024;

/// What a site looks like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// When it was taken, RFC 3339 in UTC, by the agent's clock.
    pub taken_at: String,
    /// The agent's host.
    pub host: Host,
    /// The agent itself.
    pub agent: Agent,
    /// Engines behind exposed services, by the service's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub docker: Vec<Docker>,
    /// What could not be found out, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// The agent's host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Operating system, as its os-release names it.
    pub os: String,
    /// Kernel name and release.
    pub kernel: String,
    /// Machine architecture, such as `x86_64`.
    pub architecture: String,
    /// Logical CPUs.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_total: u64,
    /// Bytes of memory that could still be used.
    pub memory_available: u64,
    /// Seconds since boot.
    pub uptime_s: u64,
    /// Load averages over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Mounted file systems on real devices.
    pub disks: Vec<Disk>,
    /// Addresses of its interfaces, without loopback and link-local ones.
    pub addresses: Vec<Address>,
}

/// A mounted file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Disk {
    /// Where it is mounted.
    pub mount: String,
    /// Its device.
    pub device: String,
    /// Its type.
    pub file_system: String,
    /// Bytes in all.
    pub total: u64,
    /// Bytes that an unprivileged user could still write.
    pub available: u64,
}

/// An address of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Address {
    /// Such as `eth0`.
    pub interface: String,
    /// IPv4 or IPv6 address.
    pub address: String,
}

/// The agent itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Agent {
    /// Its version.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// What it exposes, and whether that answers.
    pub services: Vec<ServiceHealth>,
}

/// Whether a service answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceHealth {
    /// Which.
    #[serde(flatten)]
    pub service: Service,
    /// Whether the agent could connect to it.
    pub answers: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A Docker Engine behind an exposed service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Docker {
    /// Name of the service.
    pub service: String,
    /// Engine version.
    pub version: String,
    /// API version.
    pub api_version: String,
    /// Containers, running or not.
    pub containers: Vec<Container>,
    /// Images.
    pub images: Vec<Image>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Networks.
    pub networks: Vec<Network>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Such as `running` or `exited`.
    pub state: String,
    /// Such as `Up 3 hours`.
    pub status: String,
    /// When it was made, seconds since 1970.
    pub created: i64,
    /// Published ports, such as `0.0.0.0:80->8080/tcp`.
    pub ports: Vec<String>,
    /// What it runs, with `***` where a secret may have been.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command: String,
    /// Its labels, with `***` for values that may be secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Image {
    /// Its id.
    pub id: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// When it was made, seconds since 1970.
    pub created: i64,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
}
