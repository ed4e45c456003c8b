//! Hashes what a writer wrote, on a thread of its own, and publishes how far it is: the frontier.
//!
//! The thread ends when there is nothing to do for a while, or when told to rest, and leaves the state of the hash behind;
//! the next one goes on from there. So an ingest that is resumed within one process is not hashed twice. A small file is
//! hashed by whoever asks for the digest of all of it.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use berth_api::{
    blocking,
    content::{Follower, Stage},
    early_flush,
};
use berth_model::{Digest, Status};
use sha2::Digest as _;
use tokio::sync::watch;

/// Read and hashed at once; the frontier moves by at most this much.
const CHUNK: usize = 1 << 20;
/// After so many bytes the disk is told to begin with them: the commit waits for it, and would find all still to be written.
const SPAN: u64 = 8 << 20;
/// A file of at most so many bytes is hashed where its digest is asked for: that takes less time than to begin a thread.
pub(crate) const SMALL: u64 = 64 << 10;
/// A thread that waited in vain for so long ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far the hasher is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frontier {
    /// Of these bytes.
    pub(crate) generation: u64,
    /// So many are hashed.
    pub(crate) hashed: u64,
    /// Their digest, whenever the hasher has caught up with the writer.
    pub(crate) digest: Option<Digest>,
    /// It failed, and goes on only with another generation.
    pub(crate) failed: Option<Status>,
}

/// The hash of the first bytes of one generation.
struct Progress {
    generation: u64,
    state: sha2::Sha256,
    hashed: u64,
    /// The length that was caught up with and told; nothing yet, so that an empty file gets its digest too.
    told: Option<u64>,
}

impl Progress {
    fn none(generation: u64) -> Self {
        Self { generation, state: sha2::Sha256::new(), hashed: 0, told: None }
    }

    fn is_done(&self, orders: &Orders) -> bool {
        self.generation == orders.generation && self.told == Some(orders.written)
    }
}

/// What the hasher shall do, and what it did when it last had a thread.
struct Orders {
    generation: u64,
    written: u64,
    rest: bool,
    running: bool,
    parked: Progress,
}

struct Shared {
    path: PathBuf,
    orders: Mutex<Orders>,
    changed: Condvar,
    /// Sent to only while `orders` is locked, and only of the ordered generation.
    tell: watch::Sender<Frontier>,
}

/// A hasher of one data file. Dropping it ends its thread.
pub(crate) struct Hasher {
    shared: Arc<Shared>,
}

impl Hasher {
    /// A hasher of the file at `path`, from its beginning up to what [`Hasher::advance`] says is written.
    pub(crate) fn new(path: PathBuf, generation: u64) -> Self {
        let parked = Progress::none(generation);
        let orders = Mutex::new(Orders { generation, written: 0, rest: false, running: false, parked });
        let tell = watch::Sender::new(Frontier { generation, ..Frontier::default() });
        Self { shared: Arc::new(Shared { path, orders, changed: Condvar::new(), tell }) }
    }

    /// So many bytes are in the file. Errs if hashing failed before, or cannot be started.
    pub(crate) fn advance(&self, written: u64) -> Result<(), Status> {
        if let Some(status) = &self.shared.tell.borrow().failed {
            return Err(status.clone());
        }
        let mut orders = self.shared.orders();
        orders.written = written;
        orders.rest = false;
        if !orders.running {
            let shared = Arc::clone(&self.shared);
            std::thread::Builder::new()
                .name("content-hasher".to_owned())
                .spawn(move || shared.run())
                .map_err(|error| Status::resource_exhausted(format!("start a hasher: {error}")))?;
            orders.running = true;
        }
        drop(orders);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// The file is another one, of which nothing is hashed yet.
    pub(crate) fn begin_anew(&self, generation: u64) {
        let mut orders = self.shared.orders();
        orders.generation = generation;
        orders.written = 0;
        self.shared.tell.send_replace(Frontier { generation, ..Frontier::default() });
        drop(orders);
        self.shared.changed.notify_all();
    }

    /// Nobody writes: ends the thread.
    pub(crate) fn rest(&self) {
        self.shared.orders().rest = true;
        self.shared.changed.notify_all();
    }

    /// How far it is.
    pub(crate) fn now(&self) -> Frontier {
        self.shared.tell.borrow().clone()
    }

    /// To wait on.
    pub(crate) fn frontier(&self) -> watch::Receiver<Frontier> {
        self.shared.tell.subscribe()
    }

    /// The same as [`Hasher::digest`] of a file that grows no more.
    pub(crate) async fn digest_of_whole(&self, generation: u64, written: u64) -> Result<Digest, Status> {
        if written > SMALL || self.shared.has_begun(generation) {
            return self.digest(generation, written).await;
        }
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.hash_all(generation, written)).await
    }

    /// The digest of exactly `written` bytes of a generation, once they are hashed.
    pub(crate) async fn digest(&self, generation: u64, written: u64) -> Result<Digest, Status> {
        self.advance(written)?;
        let mut frontier = self.frontier();
        let done = frontier
            .wait_for(|now| {
                now.failed.is_some() || now.generation != generation || (now.hashed == written && now.digest.is_some())
            })
            .await
            .map_err(|_gone| Status::aborted("the ingest was closed"))?
            .clone();
        match done {
            Frontier { failed: Some(status), .. } => Err(status),
            Frontier { digest: Some(digest), generation: found, .. } if found == generation => Ok(digest),
            _ => Err(Status::aborted("the ingest began anew while it was hashed")),
        }
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.rest();
    }
}

impl Shared {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody hashes, or has hashed, anything of a generation, or failed to.
    fn has_begun(&self, generation: u64) -> bool {
        let orders = self.orders();
        let failed = self.tell.borrow().failed.is_some();
        failed || orders.running || orders.generation != generation || orders.parked.hashed > 0
    }

    /// The digest of the first bytes of the file, here and now; told and left behind as a thread does it.
    fn hash_all(&self, generation: u64, written: u64) -> Result<Digest, Status> {
        let read = || {
            let mut bytes = vec![0; usize::try_from(written).unwrap_or(usize::MAX)];
            File::open(&self.path)?.read_exact_at(&mut bytes, 0)?;
            let state = sha2::Sha256::new_with_prefix(&bytes);
            Ok((Digest::from_sha256(state.clone().finalize().into()), state))
        };
        let done = read().map_err(|error| Status::io("read back", &self.path, &error));
        let mut orders = self.orders();
        if orders.running || orders.generation != generation {
            return done.map(|(digest, _)| digest);
        }
        match done {
            Ok((digest, state)) => {
                orders.written = written;
                orders.parked = Progress { generation, state, hashed: written, told: Some(written) };
                let told = Frontier { generation, hashed: written, digest: Some(digest), failed: None };
                self.tell.send_replace(told);
                Ok(digest)
            }
            Err(status) => {
                self.tell.send_modify(|frontier| frontier.failed = Some(status.clone()));
                Err(status)
            }
        }
    }

    /// The life of a thread.
    fn run(&self) {
        let mut progress = {
            let mut orders = self.orders();
            let generation = orders.generation;
            std::mem::replace(&mut orders.parked, Progress::none(generation))
        };
        loop {
            let done = self.follow(&mut progress);
            // What was ordered since is seen under this lock; who orders something later starts another thread.
            let mut orders = self.orders();
            match done {
                Ok(()) if !orders.rest && !progress.is_done(&orders) => continue,
                Err(_) if progress.generation != orders.generation => {
                    progress = Progress::none(orders.generation);
                    continue;
                }
                Ok(()) => orders.parked = progress,
                Err(error) => {
                    let status = Status::io("read back", &self.path, &error);
                    self.tell.send_modify(|frontier| frontier.failed = Some(status));
                }
            }
            orders.running = false;
            return;
        }
    }

    /// What to hash next: a generation and its length. `None`: nothing for too long, or told to rest.
    fn next(&self, progress: &Progress) -> Option<(u64, u64)> {
        let idle = |orders: &mut Orders| !orders.rest && progress.is_done(orders);
        let waited = self.changed.wait_timeout_while(self.orders(), PATIENCE, idle);
        let (mut orders, _timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        (!orders.rest && !idle(&mut orders)).then_some((orders.generation, orders.written))
    }

    fn follow(&self, progress: &mut Progress) -> io::Result<()> {
        // As large as what is read at once ever was: there may be a thousand of these, of small blobs.
        let mut buffer = Vec::new();
        let mut file: Option<(File, Option<Follower>)> = None;
        let mut begun = progress.hashed;
        while let Some((generation, written)) = self.next(progress) {
            if progress.generation != generation {
                (*progress, file) = (Progress::none(generation), None);
                begun = 0;
            }
            let (file, follower) = match &mut file {
                Some(both) => both,
                empty => {
                    let file = File::open(&self.path)?;
                    let follower = Follower::join(&file, Stage::Hash, progress.hashed);
                    empty.insert((file, follower))
                }
            };
            let want = usize::try_from(written.saturating_sub(progress.hashed)).unwrap_or(CHUNK).min(CHUNK);
            if let Some(bytes) = follower.as_ref().and_then(|follower| follower.bytes(progress.hashed, want)) {
                progress.state.update(&bytes);
                progress.hashed += bytes.len() as u64;
            } else {
                if buffer.len() < want {
                    buffer.resize(want, 0_u8);
                }
                if let Some(part) = buffer.get_mut(..want) {
                    file.read_exact_at(part, progress.hashed)?;
                    progress.state.update(&*part);
                    progress.hashed += want as u64;
                }
            }
            if let Some(follower) = follower {
                follower.passed(progress.hashed);
            }
            if progress.hashed - begun >= SPAN {
                early_flush::begin(file, begun, progress.hashed - begun);
                begun = progress.hashed;
            }
            let digest =
                (progress.hashed == written).then(|| Digest::from_sha256(progress.state.clone().finalize().into()));
            progress.told = (progress.hashed >= written).then_some(written);
            let orders = self.orders();
            if orders.generation == generation {
                self.tell.send_replace(Frontier { generation, hashed: progress.hashed, digest, failed: None });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    #[tokio::test]
    async fn follows_the_writer_and_begins_anew() {
        let bytes: Vec<u8> = (0..3 * CHUNK + 17).map(|n| n as u8).collect();
        let (dir, path) = data(&bytes);
        let hasher = Hasher::new(path.clone(), 1);
        assert_eq!(hasher.digest(1, 0).await.unwrap(), Digest::of(b""), "nothing written yet");
        for upto in [5, CHUNK + 1, bytes.len()] {
            hasher.advance(upto as u64).unwrap();
            assert_eq!(hasher.digest(1, upto as u64).await.unwrap(), Digest::of(&bytes[..upto]));
        }
        std::fs::write(dir.path().join("new"), b"other").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        hasher.begin_anew(2);
        assert_eq!(hasher.now().hashed, 0);
        hasher.advance(5).unwrap();
        assert_eq!(hasher.digest(2, 5).await.unwrap(), Digest::of(b"other"));
    }

    #[tokio::test]
    async fn a_small_file_needs_no_thread() {
        let (_dir, path) = data(b"abc");
        let hasher = Hasher::new(path.clone(), 1);
        assert_eq!(hasher.digest_of_whole(1, 3).await.unwrap(), Digest::of(b"abc"));
        assert!(!hasher.shared.orders().running);
        assert_eq!((hasher.now().hashed, hasher.now().digest), (3, Some(Digest::of(b"abc"))), "who follows it hears");
        // More came after all, and then it is hashed behind its writer.
        std::fs::write(&path, b"abcdef").unwrap();
        assert_eq!(hasher.digest(1, 6).await.unwrap(), Digest::of(b"abcdef"));
        assert_eq!(hasher.digest_of_whole(1, 6).await.unwrap(), Digest::of(b"abcdef"));
        assert_eq!(hasher.now().hashed, 6);
        hasher.begin_anew(2);
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        assert_eq!(hasher.digest_of_whole(2, 1 << 20).await.unwrap(), Digest::of(&vec![7; 1 << 20]));
        let shrunk = Hasher::new(path.clone(), 1);
        std::fs::write(&path, b"ab").unwrap();
        assert!(shrunk.digest_of_whole(1, 3).await.unwrap_err().message.contains(&path.display().to_string()));
        assert!(shrunk.advance(3).is_err(), "it stays failed");
        std::fs::write(&path, b"abc").unwrap();
        assert!(shrunk.digest_of_whole(1, 3).await.is_err(), "also for who asks again");
    }

    #[tokio::test]
    async fn goes_on_after_a_rest_from_where_it_was() {
        let (_dir, path) = data(b"abcdef");
        let hasher = Hasher::new(path.clone(), 1);
        assert_eq!(hasher.digest(1, 3).await.unwrap(), Digest::of(b"abc"));
        hasher.rest();
        let ended = || !hasher.shared.orders().running;
        berth_testing::wait::wait_until("the thread's end", Duration::from_secs(10), ended, || "running");
        assert_eq!(hasher.now().hashed, 3, "what was hashed stays told");
        // The first bytes are not read again.
        std::fs::write(&path, b"...def").unwrap();
        assert_eq!(hasher.digest(1, 6).await.unwrap(), Digest::of(b"abcdef"));
    }

    #[tokio::test]
    async fn a_file_that_shrank_is_an_error_that_names_it() {
        let (_dir, path) = data(b"12");
        let hasher = Hasher::new(path.clone(), 1);
        assert!(hasher.digest(1, 3).await.unwrap_err().message.contains(&path.display().to_string()));
        assert!(hasher.advance(2).is_err(), "it stays failed");
        hasher.begin_anew(2);
        assert_eq!(hasher.digest(2, 2).await.unwrap(), Digest::of(b"12"));
    }
}
