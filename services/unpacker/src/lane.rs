//! A large file on its way: its bytes come one after the other, and whichever thread is free writes those that are there.
//!
//! The kernel lets only one thread at a time write to a file, so there is only one at it; but several files are written at
//! once, and the layer's own thread meanwhile goes on in the archive.

use std::{
    collections::VecDeque,
    fs::File,
    os::fd::AsFd as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rustix::fs::FileType;

use crate::{
    bypass::Bypass,
    error::ApplyError,
    facts::Facts,
    file::{self, told},
};

/// The disk is told to begin after so many bytes, so that the flush at the end finds little left.
const SPAN: u64 = 8 << 20;
/// Nobody is called for fewer bytes, unless they are the last ones.
const WORTH: usize = 1 << 20;

/// A file that is open, with what is to come of it.
pub(crate) struct Lane {
    file: File,
    /// Its name in the layer, for errors.
    entry: Vec<u8>,
    facts: Facts,
    state: Mutex<State>,
    /// Used by whoever writes, one at a time.
    bypass: Mutex<Option<Bypass>>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Bytes>,
    /// Bytes of those.
    length: usize,
    /// No more will come.
    ended: bool,
    /// Somebody writes, or was called to.
    called: bool,
    written: u64,
    /// Of those, the disk was told.
    begun: u64,
}

enum Next {
    Write(Bytes),
    Finish,
    /// Nothing is there, but more will come.
    Leave,
}

impl Lane {
    /// For a new file.
    pub(crate) fn new(file: File, bypass: Option<Bypass>, entry: &[u8], facts: &Facts) -> Self {
        let (entry, facts) = (entry.to_vec(), facts.clone());
        Self { file, entry, facts, state: Mutex::default(), bypass: Mutex::new(bypass) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// More bytes. `true`: somebody is to be called, who then [`run`](Self::run)s it.
    pub(crate) fn push(&self, piece: Bytes) -> bool {
        let mut state = self.state();
        state.length += piece.len();
        state.waiting.push_back(piece);
        let calls = !state.called && state.length >= WORTH;
        state.called |= calls;
        calls
    }

    /// No more will come. `true`: as with [`push`](Self::push).
    pub(crate) fn end(&self) -> bool {
        let mut state = self.state();
        state.ended = true;
        !std::mem::replace(&mut state.called, true)
    }

    /// What is to be done next.
    fn next(&self) -> Next {
        let mut state = self.state();
        let piece = state.waiting.pop_front();
        state.length -= piece.as_ref().map_or(0, Bytes::len);
        // Whoever brings more calls somebody anew.
        state.called = piece.is_some() || state.ended;
        match piece {
            Some(piece) => Next::Write(piece),
            None if state.ended => Next::Finish,
            None => Next::Leave,
        }
    }

    fn written(&self, more: u64) {
        let mut state = self.state();
        state.written += more;
        let enough = state.written - state.begun >= SPAN;
        drop(state);
        if enough {
            self.begin_flush();
        }
    }

    fn bypass(&self) -> MutexGuard<'_, Option<Bypass>> {
        self.bypass.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, error: std::io::Error) -> ApplyError {
        ApplyError::refused(&self.entry, "write a file", error)
    }

    fn begin_flush(&self) {
        let mut state = self.state();
        let (from, to) = (state.begun, state.written);
        state.begun = to;
        drop(state);
        berth_api::early_flush::begin(&self.file, from, to - from);
    }

    /// Writes what is there; after the last byte, the file gets its facts. `wrote` is told of all that waits no more, and says
    /// whether to go on.
    pub(crate) fn run(&self, wrote: impl Fn(usize) -> bool) -> Result<(), ApplyError> {
        loop {
            let piece = match self.next() {
                Next::Write(piece) => piece,
                Next::Finish => break,
                Next::Leave => return Ok(()),
            };
            let past = self.bypass().as_mut().map(|bypass| bypass.write(&piece, &self.file));
            let outcome = past.unwrap_or_else(|| Ok(file::write(self.file.as_fd(), &piece)?));
            let goes_on = wrote(piece.len());
            outcome.map_err(|error| self.refused(error))?;
            // Also what should have gone past the page cache: it need not have.
            self.written(piece.len() as u64);
            if !goes_on {
                return Ok(());
            }
        }
        if let Some(mut bypass) = self.bypass().take() {
            bypass.flush(&self.file).map_err(|error| self.refused(error))?;
        }
        self.begin_flush();
        self.facts.put_on(self.file.as_fd(), FileType::RegularFile).map_err(|refused| told(&self.entry, refused))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_comes_is_written_in_order_by_whoever_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        let facts = Facts { mode: 0o640, mtime: (1_000, 5), ..Facts::default() };
        let lane = Lane::new(File::create(&path).unwrap(), None, b"large", &facts);
        let bytes: Vec<u8> = (0..3 * WORTH + 1000).map(|n| (n / 3) as u8).collect();
        let told = Cell::new(0);
        let wrote = |more| {
            told.set(told.get() + more);
            true
        };
        let mut calls = 0;
        for piece in bytes.chunks(WORTH / 2 + 1) {
            if lane.push(Bytes::copy_from_slice(piece)) {
                calls += 1;
                assert!(!lane.push(Bytes::new()), "nobody else is called meanwhile");
                lane.run(wrote).unwrap();
            }
        }
        assert!(calls == 3 && std::fs::metadata(&path).unwrap().len() < bytes.len() as u64, "{calls}");
        assert!(lane.end(), "the rest");
        lane.run(wrote).unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes && told.get() == bytes.len());
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos(), 1_000_000_000_005);
    }

    #[test]
    fn who_is_told_to_stop_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large");
        let lane = Lane::new(File::create(&path).unwrap(), None, b"large", &Facts::default());
        assert!(!lane.push(Bytes::from_static(b"one")) && !lane.push(Bytes::from_static(b"two")));
        assert!(lane.end());
        lane.run(|_| false).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
    }
}
