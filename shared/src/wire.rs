//! JSON on the wire: one module for each conversation. Golden files in `fixtures` hold these types still; changing one
//! is a decision about the protocol.

pub mod admin;
pub mod check_in;
pub mod problem;
pub mod snapshot;
