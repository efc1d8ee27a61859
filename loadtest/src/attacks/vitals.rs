//! The gateway's process while it is attacked, seen from outside.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::result::Vitals;
use crate::process::usage;

/// From one look to the next: short enough for a peak of memory that lasts as long as a refused request.
const EVERY: Duration = Duration::from_millis(100);

/// Looks at one process until it is asked what it saw.
#[derive(Debug)]
pub struct Watch {
    id: u32,
    /// Processor time that it had used before.
    before: Duration,
    seen: Arc<Mutex<Vitals>>,
    looking: JoinHandle<()>,
}

impl Watch {
    /// At the process with this id.
    pub fn over(id: u32) -> Self {
        let seen = Arc::<Mutex<Vitals>>::default();
        let (eyes, before) = (Arc::clone(&seen), usage(id).unwrap_or_default().cpu);
        let looking = tokio::spawn(async move {
            let mut looks = interval(EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                let (rss_kib, files) = (usage(id).map_or(0, |usage| usage.rss_kib), open_files(id));
                let mut seen = eyes.lock().unwrap_or_else(PoisonError::into_inner);
                seen.rss_max_kib = seen.rss_max_kib.max(rss_kib);
                seen.files_max = seen.files_max.max(files);
            }
        });
        Self { id, before, seen, looking }
    }

    /// What was seen. `panics` are those that its log has. A process that ends as it was told to is not looked for.
    pub fn end(self, panics: u64, restarted: bool) -> Vitals {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = usage(self.id);
        let cpu_seconds = now.map_or(0.0, |now| now.cpu.saturating_sub(self.before).as_secs_f64());
        Vitals { panics, alive: restarted || now.is_some(), cpu_seconds, ..seen }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

fn open_files(id: u32) -> u64 {
    fs::read_dir(format!("/proc/{id}/fd")).map_or(0, |files| files.count() as u64)
}
