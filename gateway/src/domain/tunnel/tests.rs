//! Tables and properties of one tunnel.
