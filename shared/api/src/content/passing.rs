//! Bytes in passing: what a writer has put into a blob's file stays in memory until those in this process who read it next, who
//! hash and who unpack, have had it. So it need not go through the page cache on its way to the disk: a blob is read once
//! and then not for long, and its pages would take the place of those that containers use.
//!
//! Nothing depends on it. What is not here is in the file, and is read there; who reads in another process does so always.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::Instant,
};

use super::pace::Pace;
use crate::buffers::{Lent, Pool};

/// Bytes kept and written at once.
pub(super) const PIECE: usize = 1 << 20;
/// Pieces kept of one file.
const OF_ONE: usize = 12;
/// Pieces kept of all files.
const OF_ALL: usize = 48;
/// A writer that is ahead by all that may be kept waits for its readers, but not longer, unless they do move and it is much
/// faster than they are ([`Pace`]).
const PATIENCE: Duration = Duration::from_millis(250);

static FILES: LazyLock<Mutex<HashMap<Identity, Weak<Passing>>>> = LazyLock::new(Mutex::default);
static BUFFERS: LazyLock<Arc<Pool>> = LazyLock::new(|| Pool::new(PIECE, OF_ALL));
static PLACES: Semaphore = Semaphore::const_new(OF_ALL);

/// Device and inode.
type Identity = (u64, u64);

/// Who reads what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Hashes it.
    Hash,
    /// Unpacks it, or whatever else is done with a blob that is not there yet.
    Use,
}

/// One file.
#[derive(Debug)]
struct Passing {
    identity: Identity,
    /// As long as it is open nothing else is called so.
    _file: File,
    state: Mutex<State>,
    /// A piece is gone, or a follower.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// One after the other, though perhaps with gaps.
    pieces: VecDeque<Piece>,
    followers: Vec<(u64, Stage, u64)>,
    writer: Option<u64>,
    names: u64,
}

#[derive(Debug)]
struct Piece {
    at: u64,
    bytes: Bytes,
    _place: SemaphorePermit<'static>,
}

impl Piece {
    fn end(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }
}

impl State {
    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// Both the next stages are in this process.
    fn is_followed(&self) -> bool {
        [Stage::Hash, Stage::Use].iter().all(|wanted| self.followers.iter().any(|(_, stage, _)| stage == wanted))
    }

    /// All followers have had so much.
    fn passed(&self) -> u64 {
        self.followers.iter().map(|(_, _, offset)| *offset).min().unwrap_or(u64::MAX)
    }

    /// Drops what all have had; `true`: something.
    fn drop_passed(&mut self) -> bool {
        let passed = self.passed();
        let before = self.pieces.len();
        while self.pieces.front().is_some_and(|piece| piece.end() <= passed) {
            self.pieces.pop_front();
        }
        before > self.pieces.len()
    }
}

impl Passing {
    fn of(file: &File) -> io::Result<Arc<Self>> {
        let facts = file.metadata()?;
        let identity = (facts.dev(), facts.ino());
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = files.get(&identity).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let one =
            Arc::new(Self { identity, _file: file.try_clone()?, state: Mutex::default(), changed: Notify::new() });
        files.insert(identity, Arc::downgrade(&one));
        Ok(one)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.state().pieces.clear();
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one may have come in its place.
        if files.get(&self.identity).is_some_and(|known| known.strong_count() == 0) {
            files.remove(&self.identity);
        }
        if files.is_empty() {
            BUFFERS.clear();
        }
    }
}

/// A reader that is told of what passes.
#[derive(Debug)]
pub struct Follower {
    of: Arc<Passing>,
    name: u64,
}

impl Follower {
    /// Reads this file from here on. `None`: the system knows nothing of it.
    #[must_use]
    pub fn join(file: &File, stage: Stage, offset: u64) -> Option<Self> {
        let of = Passing::of(file).ok()?;
        let mut state = of.state();
        let name = state.name();
        state.followers.push((name, stage, offset));
        drop(state);
        Some(Self { of, name })
    }

    /// The bytes at an offset, at most so many, if they are in memory.
    #[must_use]
    pub fn bytes(&self, offset: u64, most: usize) -> Option<Bytes> {
        let state = self.of.state();
        let piece = state.pieces.iter().find(|piece| piece.at <= offset && offset < piece.end())?;
        let from = usize::try_from(offset - piece.at).ok()?;
        Some(piece.bytes.slice(from..piece.bytes.len().min(from.saturating_add(most))))
    }

    /// Has had all before this offset.
    pub fn passed(&self, offset: u64) {
        let mut state = self.of.state();
        for (name, _, at) in &mut state.followers {
            if *name == self.name {
                *at = offset;
            }
        }
        if state.drop_passed() {
            drop(state);
            self.of.changed.notify_waiters();
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.of.state();
        state.followers.retain(|(name, ..)| *name != self.name);
        state.drop_passed();
        drop(state);
        self.of.changed.notify_waiters();
    }
}

/// The writer of a file. What it wrote is forgotten with it: another writer may come, and write other bytes.
#[derive(Debug)]
pub(super) struct Source {
    of: Arc<Passing>,
    name: u64,
    /// Its readers were not too slow the last time.
    patient: bool,
    pace: Option<Pace>,
    /// The file is a blob now, which does not change.
    keep: bool,
}

/// What is said to a writer that asks for memory.
pub(super) enum Room {
    Here(Place),
    /// It may ask again, and loses nothing by that.
    Later,
    /// It is better off without.
    None,
}

/// Memory for one piece.
pub(super) struct Place {
    pub(super) buffer: Lent,
    permit: SemaphorePermit<'static>,
}

impl Source {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let of = Passing::of(file)?;
        let mut state = of.state();
        let name = state.name();
        state.writer = Some(name);
        state.pieces.clear();
        drop(state);
        Ok(Self { of, name, patient: true, pace: None, keep: false })
    }

    /// Memory for what is written next. Waits a little for who reads.
    pub(super) async fn place(&mut self) -> Room {
        let since = Instant::now();
        let until = since + PATIENCE;
        let mut passed_before = None;
        loop {
            let mut changed = std::pin::pin!(self.of.changed.notified());
            changed.as_mut().enable();
            let (waiting, passed) = {
                let state = self.of.state();
                if !state.is_followed() {
                    return Room::None;
                }
                (state.pieces.len(), state.passed())
            };
            let before = *passed_before.get_or_insert(passed);
            let pace = self.pace.get_or_insert_with(|| Pace::from(passed));
            self.patient |= waiting == 0;
            if waiting < OF_ONE
                && let Ok(permit) = PLACES.try_acquire()
            {
                pace.wrote(PIECE);
                pace.waited(since.elapsed());
                return Room::Here(Place { buffer: BUFFERS.take(), permit });
            }
            // Behind others there is no telling for how long.
            if !self.patient || waiting == 0 {
                return Room::None;
            }
            if tokio::time::timeout_at(until, changed).await.is_err() {
                pace.waited(since.elapsed());
                let passed = self.of.state().passed();
                self.patient = passed > before && pace.is_faster(passed);
                return if self.patient { Room::Later } else { Room::None };
            }
        }
    }

    /// Memory for what is written after what is being written now, if nobody need be waited for.
    pub(super) fn place_at_once(&mut self) -> Option<Place> {
        let state = self.of.state();
        let near = state.is_followed() && state.pieces.len() + 1 < OF_ONE;
        let permit = near.then(|| PLACES.try_acquire().ok()).flatten()?;
        if let Some(pace) = &mut self.pace {
            pace.wrote(PIECE);
        }
        Some(Place { buffer: BUFFERS.take(), permit })
    }

    /// Keeps what it may have written from passing as the bytes of the next writer.
    pub(super) fn pen(&self) -> Pen {
        Pen { of: Arc::clone(&self.of), name: self.name }
    }

    /// What was written stays as it is.
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut state = self.of.state();
        if state.writer == Some(self.name) {
            state.writer = None;
            if !self.keep {
                state.pieces.clear();
            }
        }
    }
}

/// By which a thread that writes for a [`Source`] tells what it wrote.
#[derive(Debug)]
pub(super) struct Pen {
    of: Arc<Passing>,
    name: u64,
}

impl Pen {
    /// These bytes are in the file.
    pub(super) fn wrote(&self, at: u64, place: Place) {
        let mut state = self.of.state();
        // Too late if nobody follows any more: nobody would ever drop it.
        if state.writer == Some(self.name) && !state.followers.is_empty() {
            state.pieces.push_back(Piece { at, bytes: place.buffer.share(), _place: place.permit });
            state.drop_passed();
        }
    }
}

#[cfg(test)]
mod tests;
