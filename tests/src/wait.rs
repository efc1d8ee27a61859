//! Waiting for a condition with a deadline.

use std::time::Duration;

pub use fixtures::wait::wait_until_async as until;

/// Enough for anything that a loaded machine does in well under a second when idle.
pub const SOON: Duration = Duration::from_secs(30);
