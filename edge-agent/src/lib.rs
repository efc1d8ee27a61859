//! Tidegate's agent: it only ever dials out, asks its gateway whether it is needed, and opens a tunnel when it is.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`config`] | flags, environment and file |
//! | [`state`] | what is kept in the data folder: edge ID, instance id, join token |
//! | [`page`] | the page on which a join token is pasted |
//! | [`lifecycle`] | PURE: when to check in, open, close, back off |
//! | [`client`] | check-ins and snapshots over HTTP |
//! | [`tunnel`] | the SSH connection and its streams |
//! | [`services`] | what is exposed, and how it is dialled |
//! | [`snapshot`] | what the site looks like |
//! | [`agent`] | the driver: carries out what the lifecycle decides |
//! | [`slumber`] | notices that the machine was asleep |
//! | [`status`] | how the agent is, told over a socket in its data folder |
//! | [`doctor`] | what is wrong with this set-up, and how to mend it |
//! | [`show`] | the commands that print one of these |
//! | [`exit`] | how the process ends |
//! | `fuzz` | what outsiders can send, as targets for the fuzzer; in no program |

pub mod agent;
pub mod client;
pub mod config;
pub mod doctor;
pub mod exit;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod lifecycle;
pub mod page;
pub mod services;
pub mod show;
pub mod slumber;
pub mod snapshot;
pub mod state;
pub mod status;
pub mod tunnel;
