//! What runs inside the SSH connection between our own ends.

pub mod carry;
