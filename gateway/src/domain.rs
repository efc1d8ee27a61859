//! Decisions, pure: no tokio, russh, hyper or store is imported here and no clock is read. CI checks it.

pub mod edge;
