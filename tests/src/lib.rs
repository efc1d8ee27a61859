//! The harness of the end-to-end tests: real processes, real sockets, fresh folders. The tests themselves are in
//! `tests/e2e`, one story a file.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`process`] | child processes that can't outlive their test, and their logs |
//! | [`gateway`], [`agent`], [`site`] | the two binaries, and both with an edge between them |
//! | [`http`], [`admin`] | an HTTP client over pinned TLS, and the admin API on it |
//! | [`liar`] | an agent that says whatever a test wants: raw check-ins, raw SSH logins |
//! | [`stranger`] | somebody without credentials, at an address of their own |
//! | [`fakes`] | services behind an edge |
//! | [`openssh`] | a real SSH server, and what its clients need |
//! | [`engine`] | a real Docker engine, private to a test |
//! | [`packaging`] | what the packages grant the programs, as a test applies it |
//! | [`browser`] | a real browser on the gateway's page |
//! | [`bulk`] | long bodies with a known checksum |
//! | [`network`] | a machine of its own for an agent, with a cable to pull |
//! | [`small_disk`] | a real file system that is soon full |
//! | [`clock`], [`names`] | the time on the wall and the names that a program finds, for a test to change |
//! | [`setting`](mod@setting) | variables that make a suite longer |
//! | [`tool`] | programs of this system that a test needs, by the name of their package |
//!
//! The rule: a test waits for a condition with a deadline, never for a duration, and a test that lacks something
//! fails with its name. Nothing here decides whether a test passes; assertions are in the tests.

pub mod admin;
pub mod agent;
pub mod browser;
pub mod bulk;
pub mod clock;
pub mod engine;
pub mod fakes;
pub mod gateway;
pub mod http;
pub mod liar;
pub mod names;
pub mod network;
pub mod openssh;
pub mod packaging;
pub mod process;
pub mod setting;
pub mod site;
pub mod small_disk;
pub mod stranger;
pub mod tool;
pub mod wait;
