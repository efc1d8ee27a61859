//! The registry as a whole.
