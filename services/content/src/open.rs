//! An ingest that this process knows: its rules, its hasher, and whose turn it is to change it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use berth_model::{Digest, Status};
use berth_wire::types::Time;
use tokio::sync::OwnedMutexGuard;

use crate::{
    hasher::Hasher,
    ingest::{Ingest, lost},
    store::{Kept, Layout, Store},
};

/// Bytes are made durable early whenever so many have come.
const KEEP_EVERY: u64 = 32 << 20;

/// The right to change an ingest, for one call at a time.
pub(crate) type Turn = OwnedMutexGuard<()>;

/// An ingest.
pub(crate) struct Open {
    reference: String,
    ingest: Mutex<Ingest>,
    hasher: Hasher,
    started_at: Time,
    /// When this process last saw it grow.
    grown_at: Mutex<Option<Time>>,
    /// Whoever changes the ingest and its files together holds it meanwhile.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// It was committed or dropped; who finds it must look again.
    gone: AtomicBool,
    keeping: AtomicBool,
    kept: AtomicU64,
}

impl Open {
    /// An ingest that is on the disk, or will be.
    pub(crate) fn new(kept: Kept, layout: &Layout) -> Self {
        let generation = new_generation();
        Self {
            hasher: Hasher::new(layout.data(&kept.reference), generation),
            reference: kept.reference.clone(),
            ingest: Mutex::new(Ingest::new(kept.reference, kept.expected, kept.total, kept.length, generation)),
            started_at: kept.started_at.unwrap_or_else(Time::now),
            grown_at: Mutex::default(),
            turn: Arc::default(),
            gone: AtomicBool::new(false),
            keeping: AtomicBool::new(false),
            kept: AtomicU64::new(0),
        }
    }

    pub(crate) fn reference(&self) -> &str {
        &self.reference
    }

    pub(crate) fn ingest(&self) -> MutexGuard<'_, Ingest> {
        self.ingest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    pub(crate) fn started_at(&self) -> Time {
        self.started_at
    }

    /// When it last grew, if that was in this process: the file's own time is some milliseconds behind.
    pub(crate) fn grown_at(&self) -> Option<Time> {
        *self.grown_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has just grown.
    pub(crate) fn grew(&self) {
        *self.grown_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Time::now());
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// The turn, unless somebody has it.
    pub(crate) fn try_turn(&self) -> Option<Turn> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    /// Waits for the turn. ABORTED: the ingest went away meanwhile.
    pub(crate) async fn turn(&self) -> Result<Turn, Status> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if self.is_gone() { Err(lost(&self.reference)) } else { Ok(turn) }
    }

    /// Waits for the turn and checks that the caller is the writer. ABORTED.
    pub(crate) async fn turn_of(&self, session: &str) -> Result<Turn, Status> {
        let turn = self.turn().await?;
        self.ingest().check(session, Instant::now())?;
        Ok(turn)
    }

    /// The files are another generation's from here on.
    pub(crate) fn begin_anew(&self, written: u64) {
        let generation = new_generation();
        self.ingest().begin_anew(generation, written);
        self.kept.store(0, Ordering::Relaxed);
        self.hasher.begin_anew(generation);
    }

    /// The ingest is no more: whoever writes it has lost it.
    pub(crate) fn end(&self) {
        self.gone.store(true, Ordering::Release);
        self.ingest().stand();
        self.hasher.rest();
    }

    pub(crate) fn expects(&self, digest: &Digest) -> bool {
        self.ingest().expected.as_ref() == Some(digest)
    }

    /// Starts to make bytes durable if many have come since the last time. Nobody waits for it: a commit flushes again.
    pub(crate) fn keep_early(self: &Arc<Self>, store: &Arc<Store>) {
        let (written, generation) = {
            let ingest = self.ingest();
            (ingest.written, ingest.generation)
        };
        let before = self.kept.load(Ordering::Relaxed);
        if written.saturating_sub(before) < KEEP_EVERY || self.keeping.swap(true, Ordering::AcqRel) {
            return;
        }
        self.kept.store(written, Ordering::Relaxed);
        let (this, store) = (Arc::clone(self), Arc::clone(store));
        drop(tokio::task::spawn_blocking(move || {
            if let Err(status) = store.keep(&this.reference, before == 0) {
                this.spoil(generation, &status);
            }
            this.keeping.store(false, Ordering::Release);
        }));
    }

    /// The disk refused bytes of that generation. It says so once; the next flush may succeed without them being there.
    pub(crate) fn spoil(&self, generation: u64, status: &Status) {
        tracing::warn!(reference = self.reference, %status, "the disk refused an ingest; it must begin anew");
        let mut ingest = self.ingest();
        if ingest.generation == generation {
            ingest.spoiled.get_or_insert_with(|| status.clone());
        }
    }
}

/// A generation: not 0, and not one that was ever used before, also not by an earlier process.
fn new_generation() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0.max(1)
}
