//! How many requests of one subject run, wait and poll at a time, so that neither a flood nor a crowd of long polls
//! starves the rest.
//!
//! A request first waits (at most [`WAITING`]; the next one is turned away and its caller tries again, maybe elsewhere),
//! then runs (at most [`RUNNING`]). A request that runs longer than [`POLL_AFTER`] is a long poll: it costs next to
//! nothing while it waits for something to happen, so it moves to a bound of its own ([`POLLING`]) and frees its place.
//! The alternative, one bound for all, lets 256 watchers of slow pulls stop everybody else's quick questions.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Quick requests in flight per subject.
const RUNNING: usize = 256;
/// Requests per subject that wait for a place.
const WAITING: usize = 1024;
/// Long polls in flight per subject.
const POLLING: usize = 4096;
/// A request in flight this long counts as a long poll.
const POLL_AFTER: Duration = Duration::from_millis(250);

/// The three bounds of one subject.
#[derive(Debug)]
pub(crate) struct Admission {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    polling: Arc<Semaphore>,
}

/// A place among those that wait.
#[derive(Debug)]
pub(crate) struct Place {
    waiting: OwnedSemaphorePermit,
    running: Arc<Semaphore>,
    polling: Arc<Semaphore>,
}

/// A place among those that run.
#[derive(Debug)]
pub(crate) struct Admitted {
    running: OwnedSemaphorePermit,
    polling: Arc<Semaphore>,
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self::with(RUNNING, WAITING, POLLING)
    }

    fn with(running: usize, waiting: usize, polling: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running)),
            waiting: Arc::new(Semaphore::new(waiting)),
            polling: Arc::new(Semaphore::new(polling)),
        }
    }

    /// A place to wait, unless too many wait already.
    pub(crate) fn enter(&self) -> Option<Place> {
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
        Some(Place { waiting, running: Arc::clone(&self.running), polling: Arc::clone(&self.polling) })
    }
}

impl Place {
    /// Waits, first come first served, until the request may run.
    pub(crate) async fn begin(self) -> Option<Admitted> {
        let running = self.running.acquire_owned().await.ok()?;
        drop(self.waiting);
        Some(Admitted { running, polling: self.polling })
    }
}

impl Admitted {
    /// Runs `work`, as a long poll from [`POLL_AFTER`] on.
    pub(crate) async fn run<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(POLL_AFTER) => {}
        }
        let Self { running, polling } = self;
        let poll = tokio::select! {
            done = &mut work => return done,
            permit = polling.acquire_owned() => permit,
        };
        drop(running);
        let done = work.await;
        drop(poll);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn long_polls_leave_room_for_quick_requests() {
        let admission = Admission::with(1, 1, 1);
        let poll = admission.enter().unwrap().begin().await.unwrap();
        let poll = tokio::spawn(poll.run(std::future::pending::<()>()));
        // The only place frees itself although the poll never ends.
        admission.enter().unwrap().begin().await.unwrap().run(async {}).await;
        assert!(!poll.is_finished());
        poll.abort();
    }

    #[tokio::test]
    async fn a_flood_is_turned_away() {
        let admission = Admission::with(1, 1, 1);
        let first = admission.enter().unwrap().begin().await.unwrap();
        let second = admission.enter().unwrap();
        assert!(admission.enter().is_none());
        first.run(async {}).await;
        second.begin().await.unwrap();
        assert!(admission.enter().is_some());
    }
}
