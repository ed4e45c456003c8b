//! Files of one layer that are made together by one thread, and the count of all that the layer has under way.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use berth_telemetry::effort::{Effort, OfThread};
use bytes::Bytes;

use crate::{error::ApplyError, file::NewFile, lane::Lane};

/// Bytes of large files that wait, of one layer.
const AHEAD: usize = 4 << 20;

/// What one thread makes.
pub(crate) struct Batch {
    work: Work,
    tally: Arc<Tally>,
}

pub(crate) enum Work {
    /// Whole ones.
    Files(Vec<NewFile>),
    /// What is there of a large one.
    Large(Arc<Lane>),
}

/// What a layer has under way.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) state: Mutex<Counted>,
    /// Less is under way than before.
    pub(crate) less: Condvar,
}

#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) batches: usize,
    /// Bytes of large files that wait.
    ahead: usize,
    /// Nobody wants the rest.
    pub(crate) over: bool,
    pub(crate) failed: Option<ApplyError>,
    /// Of whoever makes them.
    pub(crate) effort: Effort,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counted {
    /// No more of large files waits than may.
    pub(crate) fn has_room(&self) -> bool {
        self.ahead <= AHEAD
    }
}

impl Batch {
    /// Bytes that it holds. Those of a large file are counted by its layer.
    pub(crate) fn bytes(&self) -> usize {
        match &self.work {
            Work::Files(files) => files.iter().flat_map(|file| &file.pieces).map(Bytes::len).sum(),
            Work::Large(_) => 0,
        }
    }

    /// Where its last files go, and often the next batch's.
    pub(crate) fn dir(&self) -> Option<&Arc<OwnedFd>> {
        match &self.work {
            Work::Files(files) => files.last().map(|file| &file.dir),
            Work::Large(_) => None,
        }
    }

    /// Makes what it holds. Answers how many whole files that were, with how many bytes, and the directory of one.
    pub(crate) fn make(&self) -> Option<(&Arc<OwnedFd>, usize, usize)> {
        let watch = OfThread::begin();
        let (files, made) = match &self.work {
            Work::Files(files) => {
                let (bytes, made) = self.tally.make(files);
                (files.first().map(|file| (&file.dir, files.len(), bytes)), made)
            }
            Work::Large(lane) => (None, lane.run(|bytes| self.tally.wrote(bytes))),
        };
        let mut state = lock(&self.tally.state);
        if let Err(error) = made {
            state.over = true;
            state.failed.get_or_insert(error);
        }
        state.effort.add(watch.end(Duration::ZERO));
        files
    }
}

impl Tally {
    /// More is under way.
    pub(crate) fn batch(self: &Arc<Self>, work: Work) -> Batch {
        lock(&self.state).batches += 1;
        Batch { work, tally: Arc::clone(self) }
    }

    /// More bytes of a large file wait.
    pub(crate) fn waits(&self, bytes: usize) {
        lock(&self.state).ahead += bytes;
    }

    /// Makes files; not after the first failure of their layer.
    fn make(&self, files: &[NewFile]) -> (usize, Result<(), ApplyError>) {
        let mut bytes = 0;
        for file in files {
            if lock(&self.state).over {
                break;
            }
            if let Err(error) = file.make() {
                return (bytes, Err(error));
            }
            bytes += file.pieces.iter().map(Bytes::len).sum::<usize>();
        }
        (bytes, Ok(()))
    }

    /// So many bytes of a large file wait no more. `false`: nobody wants the rest.
    fn wrote(&self, bytes: usize) -> bool {
        let mut state = lock(&self.state);
        let before = state.ahead;
        state.ahead -= bytes;
        let goes_on = !state.over;
        if before > AHEAD && state.has_room() {
            drop(state);
            self.less.notify_all();
        }
        goes_on
    }
}

impl Drop for Batch {
    /// Counted also if making it panicked: somebody waits for that.
    fn drop(&mut self) {
        let mut state = lock(&self.tally.state);
        state.batches -= 1;
        state.over |= std::thread::panicking();
        drop(state);
        self.tally.less.notify_all();
    }
}
