//! The regular files of one layer, on their way to the [writers](crate::writers): in batches, so that a hand-over costs little
//! beside them, and files of one directory mostly come from one thread. The layer's own thread works, too, rather than wait.

use std::{
    fs::File,
    sync::{Arc, PoisonError},
    time::Instant,
};

use bytes::Bytes;

use crate::{
    batch::{Counted, Tally, Work, lock},
    bypass::Bypass,
    entry::Entry,
    error::ApplyError,
    file::NewFile,
    helped,
    lane::Lane,
    writers::Writers,
};

/// A batch holds at most so many files, and so many bytes (unless it is one file).
const BATCH_FILES: usize = 32;
const BATCH_BYTES: usize = 256 << 10;
/// From so many files on, a batch ends where the directory does.
const BATCH_LEAST: usize = 8;

/// The files of one layer, on their way.
pub(crate) struct LayerFiles<'a> {
    writers: &'a Writers,
    tally: Arc<Tally>,
    files: Vec<NewFile>,
    bytes: usize,
}

impl<'a> LayerFiles<'a> {
    /// None yet.
    pub(crate) fn new(writers: &'a Writers) -> Self {
        Self { writers, tally: Arc::default(), files: Vec::new(), bytes: 0 }
    }

    /// Has a file made, soon. Errs with the first failure there was, of this file or an earlier one.
    pub(crate) fn add(&mut self, file: NewFile) -> Result<(), ApplyError> {
        let bytes: usize = file.pieces.iter().map(Bytes::len).sum();
        let same_dir = self.files.last().is_none_or(|last| Arc::ptr_eq(&last.dir, &file.dir));
        if self.files.len() >= BATCH_FILES
            || self.bytes + bytes > BATCH_BYTES
            || (!same_dir && self.files.len() >= BATCH_LEAST)
        {
            self.hand_over()?;
        }
        self.bytes += bytes;
        self.files.push(file);
        Ok(())
    }

    /// A new file that will have so many bytes.
    pub(crate) fn large(&self, file: File, entry: &Entry) -> Result<Arc<Lane>, ApplyError> {
        let bypass = if self.writers.bypasses() { Bypass::of(&file, entry.stored) } else { Ok(None) };
        let bypass = bypass.map_err(|error| ApplyError::refused(&entry.name, "write a file", error))?;
        Ok(Arc::new(Lane::new(file, bypass, &entry.name, &entry.facts)))
    }

    /// More bytes of a large file. Waits while too many of them wait.
    pub(crate) fn pour(&self, lane: &Arc<Lane>, piece: Bytes) -> Result<(), ApplyError> {
        self.tally.waits(piece.len());
        if lane.push(piece) {
            self.offer(Work::Large(Arc::clone(lane)));
        }
        self.until(|state| state.has_room() || state.over);
        self.outcome()
    }

    /// All bytes of a large file were given.
    pub(crate) fn end(&self, lane: Arc<Lane>) -> Result<(), ApplyError> {
        if lane.end() {
            self.offer(Work::Large(lane));
        }
        self.outcome()
    }

    fn hand_over(&mut self) -> Result<(), ApplyError> {
        if let Some(files) = self.take() {
            self.offer(files);
        }
        self.outcome()
    }

    /// The files that were not handed over yet.
    fn take(&mut self) -> Option<Work> {
        self.bytes = 0;
        Some(std::mem::take(&mut self.files)).filter(|files| !files.is_empty()).map(Work::Files)
    }

    fn offer(&self, work: Work) {
        self.writers.hand_over(self.tally.batch(work));
    }

    /// Waits until all files are made.
    pub(crate) fn settle(&mut self) -> Result<(), ApplyError> {
        if let Some(files) = self.take() {
            self.writers.make(self.tally.batch(files));
        }
        self.wait();
        self.outcome()
    }

    fn wait(&self) {
        self.until(|state| state.batches == 0);
    }

    /// Works until this layer has come so far, and waits for the rest of it.
    fn until(&self, done: impl Fn(&Counted) -> bool) {
        // Rather work than wait, be it for another layer.
        while !done(&lock(&self.tally.state)) && self.writers.help() {}
        let state = lock(&self.tally.state);
        if done(&state) {
            return;
        }
        let since = Instant::now();
        let waited = self.tally.less.wait_while(state, |state| !done(state));
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        helped::waited(state.effort.scaled(since.elapsed()));
    }

    fn outcome(&self) -> Result<(), ApplyError> {
        let mut state = lock(&self.tally.state);
        match state.failed.take() {
            Some(error) => Err(error),
            None if state.over => Err(ApplyError::Damaged("a thread that makes files panicked".to_owned())),
            None => Ok(()),
        }
    }
}

impl Drop for LayerFiles<'_> {
    /// Nobody makes files of a layer that is given up: its directory may be removed next.
    fn drop(&mut self) {
        lock(&self.tally.state).over = true;
        self.wait();
    }
}
