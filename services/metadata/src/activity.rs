//! How much was changed since the start: by this a collector knows when to look.

use std::time::Duration;

use berth_wire::metadata::{Activity, activity::Cause};
use tokio::sync::watch;

/// So many of those who deleted are remembered.
const CAUSES: usize = 16;

/// Counts changes, and wakes who waits for them.
#[derive(Debug)]
pub(crate) struct Counter(watch::Sender<Activity>);

impl Default for Counter {
    fn default() -> Self {
        Self(watch::Sender::new(Activity::default()))
    }
}

impl Counter {
    /// A change that is on disk; `freed`: something may have lost what kept it. `traceparent`: who made it, if known.
    pub(crate) fn count(&self, freed: bool, traceparent: String) {
        self.0.send_modify(|activity| {
            activity.mutations += 1;
            activity.deletions += u64::from(freed);
            if freed && !traceparent.is_empty() {
                if activity.causes.len() >= CAUSES {
                    activity.causes.remove(0);
                }
                activity.causes.push(Cause { deletion: activity.deletions, traceparent });
            }
        });
    }

    /// Waits until there are so many changes, or another number of deletions than that.
    pub(crate) async fn wait(&self, mutations: u64, deletions: u64, wait: Duration) -> Activity {
        let mut seen = self.0.subscribe();
        let news = seen.wait_for(|now| now.mutations >= mutations || now.deletions != deletions);
        // Too late or not, what counts is what it is now.
        drop(tokio::time::timeout(wait, news).await);
        self.0.borrow().clone()
    }
}
