//! Threads that make the files of layers: making one takes the kernel longer than inflating and hashing what is in it, so one
//! thread for each layer would be what everything else waits for. Large ones come piece by piece ([`lane`](crate::lane)).
//!
//! The threads are there for all layers, as many as there are processors. When the queue is full, or a layer waits for its
//! files, the layer's own thread makes some, too.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    batch::{Batch, lock},
    early_flush::EarlyFlush,
    layer_files::LayerFiles,
    refusals::Refusals,
    shares,
};

/// So many batches may wait, with so many bytes: enough that a stall of the disk does not stop who brings them.
const QUEUE: usize = 64;
const QUEUE_BYTES: usize = 16 << 20;
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
    /// Bytes of those.
    bytes: usize,
    /// The directories that somebody is making files in.
    at_work: Vec<Arc<OwnedFd>>,
    running: usize,
    idle: usize,
    ended: bool,
}

impl Waiting {
    /// The next batch: if there is one, for a directory that nobody makes files in now; the kernel lets in one at a time.
    fn take(&mut self) -> Option<Batch> {
        let free =
            |batch: &Batch| batch.dir().is_none_or(|dir| self.at_work.iter().all(|busy| !Arc::ptr_eq(busy, dir)));
        let next = self.batches.iter().position(free).unwrap_or(0);
        let batch = self.batches.remove(next)?;
        self.bytes -= batch.bytes();
        self.at_work.extend(batch.dir().cloned());
        Some(batch)
    }

    fn put(&mut self, batch: Batch) {
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
    }

    fn is_full(&self) -> bool {
        self.batches.len() >= QUEUE || self.bytes >= QUEUE_BYTES
    }

    /// A batch that does not go into the queue: somebody makes it at once.
    fn refuse(&mut self, batch: Batch) -> Batch {
        self.at_work.extend(batch.dir().cloned());
        batch
    }
}

/// A batch that was taken, until it is made.
struct Leaves<'a> {
    queue: &'a Queue,
    dir: Option<Arc<OwnedFd>>,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        let Some(dir) = &self.dir else { return };
        let at_work = &mut lock(&self.queue.waiting).at_work;
        if let Some(place) = at_work.iter().position(|busy| Arc::ptr_eq(busy, dir)) {
            at_work.swap_remove(place);
        }
    }
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
        LayerFiles::new(self)
    }

    /// Whether large files may go past the page cache.
    pub(crate) fn bypasses(&self) -> bool {
        self.bypass
    }

    /// Has a batch made, by the caller's thread if the others have enough to do.
    pub(crate) fn hand_over(&self, batch: Batch) {
        if let Some(batch) = self.offer(batch) {
            self.queue.make_taken(batch);
        }
    }

    /// Makes a batch that nobody else has seen.
    pub(crate) fn make(&self, batch: Batch) {
        self.queue.make(batch);
    }

    /// Makes one that waits; `false` if none does.
    pub(crate) fn help(&self) -> bool {
        let Some(batch) = lock(&self.queue.waiting).take() else { return false };
        self.queue.make_taken(batch);
        true
    }

    /// Puts a batch into the queue; gives it back, to be made, if too many wait.
    fn offer(&self, batch: Batch) -> Option<Batch> {
        let mut waiting = lock(&self.queue.waiting);
        if waiting.is_full() {
            return Some(waiting.refuse(batch));
        }
        if waiting.idle <= waiting.batches.len() && waiting.running < self.threads {
            let queue = Arc::clone(&self.queue);
            match std::thread::Builder::new().name("layer-writer".to_owned()).spawn(move || queue.run()) {
                Ok(_runs_alone) => waiting.running += 1,
                Err(_) if waiting.running == 0 => return Some(waiting.refuse(batch)),
                Err(_) => {}
            }
        }
        waiting.put(batch);
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
            if let Some(batch) = waiting.take() {
                drop(waiting);
                self.make_taken(batch);
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

    fn make_taken(&self, batch: Batch) {
        let _leaves = Leaves { queue: self, dir: batch.dir().cloned() };
        self.make(batch);
    }

    fn make(&self, batch: Batch) {
        let made = batch.make();
        if let Some((early, (dir, files, bytes))) = self.early.as_ref().zip(made) {
            early.wrote(dir, files, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::{
        batch::{Tally, Work},
        facts::Facts,
        file::NewFile,
    };

    #[test]
    fn nobody_queues_for_a_directory_while_there_is_another() {
        let root = tempfile::tempdir().unwrap();
        let tally = Arc::new(Tally::default());
        let dir = |name: &str| {
            let path = root.path().join(name);
            std::fs::create_dir(&path).unwrap();
            Arc::new(OwnedFd::from(File::open(path).unwrap()))
        };
        let (one, other) = (dir("one"), dir("other"));
        let batch = |dir: &Arc<OwnedFd>, name: &str| {
            let (name, facts) = (name.as_bytes().to_vec(), Facts { mode: 0o644, ..Facts::default() });
            let file = NewFile { dir: Arc::clone(dir), entry: name.clone(), name, facts, pieces: Vec::new() };
            tally.batch(Work::Files(vec![file]))
        };
        let queue = Queue::default();
        for (dir, name) in [(&one, "a"), (&one, "b"), (&other, "c")] {
            lock(&queue.waiting).put(batch(dir, name));
        }
        let take = || lock(&queue.waiting).take().unwrap();
        let first = take();
        let second = take();
        assert!(Arc::ptr_eq(first.dir().unwrap(), &one) && Arc::ptr_eq(second.dir().unwrap(), &other));
        let third = take();
        assert!(Arc::ptr_eq(third.dir().unwrap(), &one), "rather that than nothing");
        for batch in [first, second, third] {
            queue.make_taken(batch);
        }
        assert!(lock(&queue.waiting).at_work.is_empty() && lock(&queue.waiting).bytes == 0);
        assert!(["one/a", "one/b", "other/c"].iter().all(|name| root.path().join(name).exists()));
    }
}
