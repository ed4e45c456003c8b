//! An ingest that this process knows: its flight, its hasher while it has one, and who waits for news of it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use berth_model::{Digest, Status};
use berth_wire::types::Time;
use tokio::sync::watch;

use crate::{
    flight::Flight,
    hasher::{Frontier, Hasher},
    store::{Disk, Kept},
};

/// Bytes are written out early whenever so many have come.
const FLUSH_EARLY: u64 = 32 << 20;

/// An ingest.
pub(crate) struct Open {
    flight: Mutex<Flight>,
    hasher: Mutex<Option<Arc<Hasher>>>,
    /// Tells of a hasher that came, so that waiters turn to it.
    pub(crate) news: watch::Sender<u64>,
    pub(crate) started_at: String,
    flushing: AtomicBool,
    flushed: AtomicU64,
}

impl Open {
    pub(crate) fn new(kept: Kept, generation: u64) -> Self {
        let flight = Flight::new(kept.reference, kept.expected, kept.total, kept.offset, generation);
        Self {
            flight: Mutex::new(flight),
            hasher: Mutex::new(None),
            news: watch::Sender::new(0),
            started_at: kept.started_at,
            flushing: AtomicBool::new(false),
            flushed: AtomicU64::new(kept.offset),
        }
    }

    pub(crate) fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hasher(&self) -> Option<Arc<Hasher>> {
        self.hasher.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sees to it that the bytes are being hashed, from the first one.
    pub(crate) fn hash(&self, disk: &Disk) -> Result<(), Status> {
        let flight = self.flight().clone();
        let mut hasher = self.hasher.lock().unwrap_or_else(PoisonError::into_inner);
        if hasher.as_ref().is_none_or(|hasher| hasher.frontier().borrow().failed.is_some()) {
            *hasher = Some(Arc::new(Hasher::start(disk.data_path(&flight.reference), flight.generation)?));
        }
        if let Some(hasher) = hasher.as_ref() {
            hasher.restart_if(flight.generation);
            hasher.advance(flight.written);
        }
        drop(hasher);
        self.news.send_modify(|n| *n += 1);
        Ok(())
    }

    /// Ends the hashing of an ingest that nobody writes.
    pub(crate) fn rest(&self) {
        *self.hasher.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.news.send_modify(|n| *n += 1);
    }

    /// How far it is written and hashed.
    pub(crate) fn frontier(&self) -> Frontier {
        let generation = self.flight().generation;
        match self.hasher().map(|hasher| hasher.frontier().borrow().clone()) {
            Some(frontier) if frontier.generation == generation => frontier,
            _ => Frontier { generation, ..Frontier::default() },
        }
    }

    pub(crate) fn is_active(&self, silence: Duration) -> bool {
        self.flight().is_active(Instant::now(), silence)
    }

    pub(crate) fn expects(&self, digest: &Digest) -> bool {
        self.flight().expected.as_ref() == Some(digest)
    }

    /// Starts to write bytes out if many have come since the last time. Not waited for: a commit flushes again.
    pub(crate) fn flush_early(self: &Arc<Self>, disk: &Disk) {
        let (written, reference) = {
            let flight = self.flight();
            (flight.written, flight.reference.clone())
        };
        if written.saturating_sub(self.flushed.load(Ordering::Relaxed)) < FLUSH_EARLY
            || self.flushing.swap(true, Ordering::AcqRel)
        {
            return;
        }
        self.flushed.store(written, Ordering::Relaxed);
        let (this, disk) = (Arc::clone(self), disk.clone());
        drop(tokio::task::spawn_blocking(move || {
            if let Err(status) = disk.flush_early(&reference) {
                tracing::debug!(%status, "early write-out failed; the commit will tell");
            }
            this.flushing.store(false, Ordering::Release);
        }));
    }
}

/// Reads a time that was kept as text.
pub(crate) fn time(text: &str) -> Option<Time> {
    text.parse::<jiff::Timestamp>().ok().map(|time| std::time::SystemTime::from(time).into())
}
