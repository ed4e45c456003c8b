//! The single writer: one thread takes changes in turn and flushes the log once for all that queued meanwhile.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use berth_failpoint::{Point, check, pass, wanted};
use berth_model::Status;
use rocksdb::WriteOptions;
use tokio::sync::mpsc;

use crate::{Durability, failure, numbers::Numbers, store::Store, txn::Txn};

/// Changes waiting for the writer; more wait in their callers.
pub(crate) const QUEUE: usize = 256;
/// At most so many changes share a flush: the first of them waits for the last.
const GROUP: usize = 128;

/// Tells the caller how its change ended. Called once.
pub(crate) type Answer = Box<dyn FnOnce(Result<(), Status>) + Send>;

/// A change: runs, and leaves behind who wants to hear of the outcome.
pub(crate) struct Change {
    /// Fills the transaction. `false`: the closure refused, nothing is to be written (and its caller was told why).
    pub(crate) run: Box<dyn FnOnce(&mut Txn<'_>) -> bool + Send>,
    pub(crate) answer: Answer,
    pub(crate) flush: Flush,
}

/// What flush of the log a change asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// One before its answer.
    First,
    /// One some time after its answer, at the latest when the store is closed.
    Later,
    /// None: it goes with what others flush.
    None,
}

/// What the thread counts, for tests of group commit.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) changes: AtomicU64,
    pub(crate) flushes: AtomicU64,
}

pub(crate) struct Writer {
    pub(crate) store: Arc<Store>,
    pub(crate) path: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) counters: Arc<Counters>,
    pub(crate) numbers: Numbers,
}

impl Writer {
    /// Runs until the last sender is gone, then flushes what is relaxed still.
    pub(crate) fn run(self, mut queue: mpsc::Receiver<Change>) {
        let mut poison: Option<Status> = None;
        let mut unsynced = false;
        while let Some(first) = queue.blocking_recv() {
            // After an error of the disk RocksDB takes nothing more. What it acknowledged is in its files; so it is closed
            // and opened again, and goes on if the disk does (somebody freed space).
            if let Some(status) = poison.take() {
                match self.store.reopen() {
                    Ok(()) => {
                        tracing::info!(path = %self.path.display(), after = %status, "the store goes on");
                        unsynced = false;
                    }
                    Err(again) => poison = Some(again),
                }
            }
            let since = Instant::now();
            let mut waiting: Vec<Answer> = Vec::new();
            let mut next = Some(first);
            let mut count = 0;
            while let Some(change) = next {
                count += 1;
                let flush = change.flush;
                let done = match &poison {
                    Some(status) => Err(status.clone()),
                    None => self.apply(change.run),
                };
                match done {
                    Ok(wrote) => {
                        unsynced |= wrote && flush != Flush::None;
                        match flush {
                            // Also one that wrote nothing: what it saw may not be on disk yet.
                            Flush::First => waiting.push(change.answer),
                            Flush::Later | Flush::None => (change.answer)(Ok(())),
                        }
                    }
                    Err(status) => {
                        poison.get_or_insert_with(|| status.clone());
                        (change.answer)(Err(status));
                    }
                }
                // Behind an error the next one begins anew, with opening the store again.
                next = if count < GROUP && poison.is_none() { queue.try_recv().ok() } else { None };
            }
            self.counters.changes.fetch_add(count as u64, Ordering::Relaxed);
            if waiting.is_empty() {
                continue;
            }
            let mut flushed = Ok(());
            if unsynced {
                flushed = self.flush();
                unsynced = flushed.is_err();
                self.numbers.committed(since.elapsed());
            }
            if let Err(status) = &flushed {
                poison.get_or_insert_with(|| status.clone());
            }
            for answer in waiting {
                answer(flushed.clone());
            }
        }
        if unsynced
            && poison.is_none()
            && let Err(status) = self.flush()
        {
            tracing::warn!(%status, "the last relaxed changes may be lost by a power cut");
        }
    }

    /// Runs one change and writes it, not yet flushed. `Ok(false)`: nothing was to be written. An error is the disk's.
    fn apply(&self, run: Box<dyn FnOnce(&mut Txn<'_>) -> bool + Send>) -> Result<bool, Status> {
        let store = self.store.read();
        let db = store.as_ref().ok_or_else(|| Store::closed(&self.path))?;
        let mut txn = Txn::new(db, self.store.tables, &self.path);
        // The closure's own panic is its caller's to hear of (its answer is lost with it); the writer goes on.
        let wanted = catch_unwind(AssertUnwindSafe(|| run(&mut txn))).unwrap_or(false);
        if !wanted {
            return Ok(false);
        }
        let Some(batch) = txn.into_batch()? else { return Ok(false) };
        check(Point::KvWrite).map_err(|error| Status::io("write to the store at", &self.path, &error))?;
        db.write_opt(batch, &WriteOptions::default())
            .map_err(|error| failure::status("write to", &self.path, &error))?;
        pass(Point::KvWritten);
        Ok(true)
    }

    fn flush(&self) -> Result<(), Status> {
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        let store = self.store.read();
        let db = store.as_ref().ok_or_else(|| Store::closed(&self.path))?;
        let wanted = wanted(Point::KvFlush).map_err(|error| Status::io("flush the store at", &self.path, &error))?;
        let sync = wanted && self.durability == Durability::Synced;
        db.flush_wal(sync).map_err(|error| failure::status("flush", &self.path, &error))?;
        pass(Point::KvFlushed);
        Ok(())
    }
}
