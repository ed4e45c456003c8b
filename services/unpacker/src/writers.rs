//! Threads that make the files of layers: making one takes the kernel longer than inflating and hashing what is in it, so one
//! thread for each layer would be what everything else waits for. Large ones come piece by piece ([`lane`](crate::lane)).
//!
//! The threads are there for all layers, as many as there are processors. A layer hands over files in batches, so that a
//! hand-over costs little beside them and files of one directory mostly come from one thread (the kernel locks a directory
//! for each name it adds). When the queue is full, or a layer waits for its files, the layer's own thread makes some, too.

use std::{
    collections::VecDeque,
    fs::File,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use berth_telemetry::effort::{Effort, OfThread};
use bytes::Bytes;

use crate::{
    bypass::Bypass, early_flush::EarlyFlush, entry::Entry, error::ApplyError, file::NewFile, helped, lane::Lane,
    refusals::Refusals, shares,
};

/// A batch holds at most so many files, and so many bytes (unless it is one file).
const BATCH_FILES: usize = 32;
const BATCH_BYTES: usize = 256 << 10;
/// From so many files on, a batch ends where the directory does.
const BATCH_LEAST: usize = 8;
/// Batches that wait, for each thread.
const QUEUE: usize = 4;
/// Bytes of large files that wait, of one layer.
const AHEAD: usize = 4 << 20;
/// A thread that had nothing to do for so long ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// The threads and their queue.
pub struct Writers {
    queue: Arc<Queue>,
    threads: usize,
    /// Large files may go past the page cache.
    bypass: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    more: Condvar,
    /// If what is made shall be flushed at the end.
    early: Option<EarlyFlush>,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    running: usize,
    idle: usize,
    ended: bool,
}

struct Batch {
    work: Work,
    tally: Arc<Tally>,
}

enum Work {
    Files(Vec<NewFile>),
    /// What is there of a large one.
    Large(Arc<Lane>),
}

/// What a layer has under way.
#[derive(Default)]
struct Tally {
    state: Mutex<Counted>,
    less: Condvar,
}

#[derive(Default)]
struct Counted {
    batches: usize,
    /// Bytes of large files that wait.
    ahead: usize,
    /// Nobody wants the rest.
    over: bool,
    failed: Option<ApplyError>,
    /// Of whoever makes them.
    effort: Effort,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writers {
    /// At most so many threads; each is started when there is work for it. If what they make will be flushed, what the disk
    /// refuses of it is told to `refusals`.
    #[must_use]
    pub fn new(threads: usize, refusals: Option<Arc<Refusals>>) -> Self {
        let early = refusals.map(EarlyFlush::new);
        Self { queue: Arc::new(Queue { early, ..Queue::default() }), threads: threads.max(1), bypass: false }
    }

    /// The same, and large files go past the page cache if the disk is fast.
    #[must_use]
    pub fn bypassing(mut self) -> Self {
        self.bypass = true;
        self
    }

    /// What was written since the disk last began to take it.
    pub(crate) fn unflushed(&self) -> u64 {
        self.queue.early.as_ref().map_or(0, EarlyFlush::waiting)
    }

    /// Files of one layer.
    pub(crate) fn layer(&self) -> LayerFiles<'_> {
        LayerFiles { writers: self, tally: Arc::default(), files: Vec::new(), bytes: 0 }
    }

    /// Hands a batch over; gives it back if too many wait.
    fn offer(&self, batch: Batch) -> Option<Batch> {
        let mut waiting = lock(&self.queue.waiting);
        if waiting.batches.len() >= self.threads * QUEUE {
            return Some(batch);
        }
        if waiting.idle <= waiting.batches.len() && waiting.running < self.threads {
            let queue = Arc::clone(&self.queue);
            match std::thread::Builder::new().name("layer-writer".to_owned()).spawn(move || queue.run()) {
                Ok(_runs_alone) => waiting.running += 1,
                Err(_) if waiting.running == 0 => return Some(batch),
                Err(_) => {}
            }
        }
        waiting.batches.push_back(batch);
        drop(waiting);
        self.queue.more.notify_one();
        None
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        lock(&self.queue.waiting).ended = true;
        self.queue.more.notify_all();
    }
}

impl Queue {
    /// The life of a thread.
    fn run(&self) {
        shares::leave();
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(batch) = waiting.batches.pop_front() {
                drop(waiting);
                self.make(batch);
                waiting = lock(&self.waiting);
                continue;
            }
            if waiting.ended {
                break;
            }
            waiting.idle += 1;
            let (woken, timeout) = self.more.wait_timeout(waiting, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            waiting = woken;
            waiting.idle -= 1;
            if timeout.timed_out() && waiting.batches.is_empty() {
                break;
            }
        }
        waiting.running -= 1;
    }

    fn make(&self, batch: Batch) {
        let bytes = batch.make();
        if let (Some(early), Work::Files(files)) = (&self.early, &batch.work)
            && let Some(file) = files.first()
        {
            early.wrote(&file.dir, files.len(), bytes);
        }
    }
}

impl Batch {
    /// Makes what it holds. Answers how many bytes its files have.
    fn make(&self) -> usize {
        let watch = OfThread::begin();
        let (bytes, made) = match &self.work {
            Work::Files(files) => self.tally.make(files),
            Work::Large(lane) => (0, lane.run(|bytes| self.tally.wrote(bytes))),
        };
        let mut state = lock(&self.tally.state);
        if let Err(error) = made {
            state.over = true;
            state.failed.get_or_insert(error);
        }
        state.effort.add(watch.end(Duration::ZERO));
        bytes
    }
}

impl Tally {
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
        if before > AHEAD && state.ahead <= AHEAD {
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

/// The files of one layer, on their way.
pub(crate) struct LayerFiles<'a> {
    writers: &'a Writers,
    tally: Arc<Tally>,
    files: Vec<NewFile>,
    bytes: usize,
}

impl LayerFiles<'_> {
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
        let bypass = if self.writers.bypass { Bypass::of(&file, entry.stored) } else { Ok(None) };
        let bypass = bypass.map_err(|error| ApplyError::refused(&entry.name, "write a file", error))?;
        Ok(Arc::new(Lane::new(file, bypass, &entry.name, &entry.facts)))
    }

    /// More bytes of a large file. Waits while too many of them wait.
    pub(crate) fn pour(&self, lane: &Arc<Lane>, piece: Bytes) -> Result<(), ApplyError> {
        lock(&self.tally.state).ahead += piece.len();
        if lane.push(piece) {
            self.offer(Work::Large(Arc::clone(lane)));
        }
        self.until(|state| state.ahead <= AHEAD || state.over);
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

    fn batch(&self, work: Work) -> Batch {
        lock(&self.tally.state).batches += 1;
        Batch { work, tally: Arc::clone(&self.tally) }
    }

    /// Has it made, by this thread if the others have enough to do.
    fn offer(&self, work: Work) {
        if let Some(refused) = self.writers.offer(self.batch(work)) {
            self.writers.queue.make(refused);
        }
    }

    /// Waits until all files are made.
    pub(crate) fn settle(&mut self) -> Result<(), ApplyError> {
        if let Some(files) = self.take() {
            self.writers.queue.make(self.batch(files));
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
        while !done(&lock(&self.tally.state)) {
            let next = lock(&self.writers.queue.waiting).batches.pop_front();
            let Some(batch) = next else { break };
            self.writers.queue.make(batch);
        }
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
