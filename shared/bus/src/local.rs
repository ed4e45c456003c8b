//! The in-process home: the same rules as over NATS, with nothing to set up.

mod calls;
mod dead;
mod events;
mod jobs;

use std::sync::Arc;
use std::time::Duration;

use calls::Calls;
use dead::Graveyard;
use events::Events;
use jobs::Jobs;

/// Everything of one in-process bus.
#[derive(Debug)]
pub(crate) struct Local {
    calls: Calls,
    jobs: Jobs,
    events: Events,
    graveyard: Arc<Graveyard>,
    /// How long to wait for a service or worker to appear.
    wait: Duration,
}

impl Local {
    pub(crate) fn new(wait: Duration) -> Self {
        Self { calls: Calls::default(), jobs: Jobs::default(), events: Events::new(), graveyard: Arc::default(), wait }
    }
}

/// Locks, also after a panic elsewhere: no code in this home leaves its tables half-changed.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
