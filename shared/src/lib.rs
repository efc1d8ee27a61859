//! What both ends of Tidegate must agree on.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`id`] | names and ids as types: edge, endpoint, instance, offer, service |
//! | [`secret`] | the type that keeps a secret out of logs |
//! | [`fingerprint`] | how a host key and a TLS key are pinned |
//! | [`join_token`] | what an admin pastes into an agent |
//! | [`envelope`] | tunnel credentials, sealed for one edge and one offer |
//! | [`wire`] | JSON of the check-in, the admin API, snapshots and problems |
//! | [`engine`] | what a Docker Engine says of its containers |
//! | [`scrub`] | taking secrets out of what a site tells of itself |
//! | `fuzz` | what outsiders can send, as targets for the fuzzer; in no program |
//! | `schema` | what JSON schemas say beyond the types of [`wire`]; compiled for the gateway only |
//! | [`tunnel`] | what runs inside the SSH connection: control messages, streams with credit, the socket below |
//! | [`host_port`], [`dial`], [`tls`] | reaching a gateway: addresses, CONNECT proxies, pins |
//! | [`line`](mod@line) | the kept HTTP connection on which an agent checks in, and the requests on it |
//! | [`probe`] | what a gateway shows before anybody trusts it |
//! | [`log`], [`toml_file`], [`folder`] | what every binary does the same way: logging, its configuration file, folders that last |
//! | [`terminal`], [`report`] | what people read of commands: text that is safe to show, what `doctor` found |
//!
//! Nothing here decides anything about the life of an edge: that is `gateway::domain` and `edge_agent::lifecycle`.

pub mod dial;
pub mod engine;
pub mod envelope;
pub mod fingerprint;
pub mod folder;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod host_port;
pub mod id;
pub mod join_token;
pub mod line;
pub mod log;
pub mod probe;
pub mod report;
#[cfg(feature = "schema")]
pub(crate) mod schema;
pub mod scrub;
pub mod secret;
pub mod terminal;
pub mod tls;
pub mod toml_file;
pub mod tunnel;
pub mod wire;
