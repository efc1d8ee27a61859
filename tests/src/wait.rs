//! Waiting for a condition with a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// Enough for anything that a loaded machine does in well under a second when idle.
pub const SOON: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(20);

/// Asks `condition` until it has an answer, and returns that.
///
/// # Panics
/// With `what` if there is none within `deadline`.
pub async fn until<T>(deadline: Duration, what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        let asked = timeout_at(end, condition()).await;
        if let Ok(Some(answer)) = asked {
            return answer;
        }
        assert!(asked.is_ok() && Instant::now() < end, "waited {deadline:?} in vain: {what}");
        sleep(STEP).await;
    }
}
