//! The load harness: starts the real programs, drives them from a process of its own, and says how fast they were beside
//! a peer that did the same work in the same minute.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`plan`] PURE | ways through a tunnel, cases, and the order in which they take turns |
//! | [`statistics`], [`units`], [`table`] PURE | medians and percentiles, sizes and durations as text, columns |
//! | [`report`] PURE | from samples to the report on the terminal and in JSON |
//! | [`pattern`], [`service`] | the bytes that are sent, and the service behind the tunnel that checks them |
//! | [`process`], [`machine`] | child processes and the CPU time they used; what machine this is |
//! | [`place`] | where things run: on the loopback interface, or on both sides of a path |
//! | [`gateway`], [`admin`], [`site`], [`openssh`], [`rathole`], [`bore`], [`bench`](mod@bench) | a gateway, a gateway with an agent, the same in three peers, and all at once |
//! | [`stream`] | one connection through a way |
//! | [`throughput`], [`latency`] | the two measurements |
//! | [`agents`] | thousands of simulated agents: engine, schedule, and what is measured |
//! | [`attacks`] | attacks on a gateway, with agents at work beside them |
//! | [`options`] | the command line |
//!
//! The rule: a black box. The harness knows the programs by their command lines, the wire types in `shared` and /proc,
//! and never links the gateway or the agent. What fails is counted beside what was fast, and no byte counts as carried
//! before it was compared with the byte that was sent.

pub mod admin;
pub mod agents;
pub mod attacks;
pub mod bench;
pub mod bore;
pub mod gateway;
pub mod latency;
pub mod machine;
pub mod openssh;
pub mod options;
pub mod pattern;
pub mod place;
pub mod plan;
pub mod process;
pub mod rathole;
pub mod report;
pub mod service;
pub mod site;
pub mod statistics;
pub mod stream;
pub mod table;
pub mod throughput;
pub mod units;
