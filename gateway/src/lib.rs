//! The gateway of Tidegate: check-ins, tunnels, streams, and the operator's side.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`config`] | flags, environment and file as one checked configuration |
//! | [`domain`] | PURE: edge records, one tunnel's machine, the registry of all, the check-in decision |
//! | [`store`] | durable state: the trait, sled |
//! | [`tunnels`] | the one task that owns the registry and runs its commands |
//! | [`link`] | one live tunnel and its streams |
//! | [`http`] | port 9000: check-ins, admin API, services through their tunnels |
//! | [`ssh`] | the tunnel server on port 8000 |

pub mod config;
pub mod domain;
pub mod http;
pub mod link;
pub mod ssh;
pub mod store;
pub mod tunnels;
