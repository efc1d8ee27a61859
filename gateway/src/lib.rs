//! The gateway of Tidegate: check-ins, tunnels, streams, and the operator's side.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`config`] | flags, environment and file as one checked configuration |
//! | [`data_dir`] | the data folder: its lock, how secrets are kept in it |
//! | [`identity`] | host key, TLS key and certificate |
//! | [`domain`] | PURE: edge records, one tunnel's machine, the registry of all, the check-in decision |
//! | [`store`] | durable state: the trait, sled |
//! | [`backup`] | everything that a gateway must keep, in one file, and back |
//! | [`access`] | who may use the gateway as an operator: users, sessions, API tokens, SSH keys |
//! | [`accept`] | accepting connections, also while there is nothing left to accept them with |
//! | [`admission`] | who may be at a port before login: places, penalties, PROXY headers |
//! | [`audit`] | what was done, by whom: an append-only log whose records are chained by hashes |
//! | [`budget`] | what may be had after login: memory for all, streams and requests for each operator |
//! | [`tunnels`] | the one task that owns the registry and runs its commands |
//! | [`link`] | one live tunnel and its streams |
//! | [`http`] | port 9000: check-ins, admin API, services through their tunnels |
//! | [`ssh`] | the tunnel server on port 8000 |
//! | [`telemetry`] | what the gateway counts and reads of its own work; the page of metrics |
//! | [`quantities`] | bytes and spans of time as people read them |
//! | [`readiness`] | which parts can do their work |
//! | [`running`] | all of these from start to drain: [`start`] |
//! | [`serve`] | `tidegate serve` as a process |
//! | [`cli`] | the command line: the operator's side |
//! | `fuzz` | what outsiders can send, as targets for the fuzzer; in no program |

pub mod accept;
pub mod access;
pub mod admission;
pub mod audit;
pub mod backup;
pub mod budget;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod domain;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod http;
pub mod identity;
pub mod link;
pub mod quantities;
pub mod readiness;
pub mod running;
pub mod serve;
pub mod ssh;
pub mod store;
pub mod telemetry;
pub mod tunnels;

pub use running::{Listeners, Running, start};
