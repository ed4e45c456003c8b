//! Hashes what a writer wrote, on a thread of its own, and publishes how far it is: the frontier.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use berth_model::{Digest, Status};
use sha2::Digest as _;
use tokio::sync::watch;

/// Read and hashed at once; the frontier moves by at most this much.
const CHUNK: usize = 1 << 20;

/// What the hasher shall do.
#[derive(Debug, Default)]
struct Orders {
    generation: u64,
    written: u64,
    closed: bool,
}

/// How far the hasher is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frontier {
    /// Of these bytes.
    pub(crate) generation: u64,
    /// So many are hashed.
    pub(crate) hashed: u64,
    /// Their digest, whenever the hasher has caught up with the writer.
    pub(crate) digest: Option<Digest>,
    /// It failed.
    pub(crate) failed: Option<Status>,
}

/// A hasher of one data file. Dropping it ends its thread.
pub(crate) struct Hasher {
    orders: Arc<(Mutex<Orders>, Condvar)>,
    frontier: watch::Receiver<Frontier>,
}

fn lock(orders: &Mutex<Orders>) -> MutexGuard<'_, Orders> {
    orders.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hasher {
    /// Starts hashing `path` from its beginning, up to what [`Hasher::advance`] says is written.
    pub(crate) fn start(path: PathBuf, generation: u64) -> Result<Self, Status> {
        let orders = Arc::new((Mutex::new(Orders { generation, ..Orders::default() }), Condvar::new()));
        let (tell, frontier) = watch::channel(Frontier { generation, ..Frontier::default() });
        let for_thread = Arc::clone(&orders);
        std::thread::Builder::new()
            .name("content-hasher".to_owned())
            .spawn(move || run(&path, &for_thread, &tell))
            .map_err(|error| Status::resource_exhausted(format!("start a hasher: {error}")))?;
        Ok(Self { orders, frontier })
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut lock(&self.orders.0));
        self.orders.1.notify_all();
    }

    /// So many bytes are in the file.
    pub(crate) fn advance(&self, written: u64) {
        self.order(|orders| orders.written = written);
    }

    /// The file is of this generation now; if that is a new one, nothing of it was reported yet.
    pub(crate) fn restart_if(&self, generation: u64) {
        self.order(|orders| {
            if orders.generation != generation {
                orders.generation = generation;
                orders.written = 0;
            }
        });
    }

    /// To wait on.
    pub(crate) fn frontier(&self) -> watch::Receiver<Frontier> {
        self.frontier.clone()
    }

    /// The digest of exactly `written` bytes of a generation, once they are hashed.
    pub(crate) async fn digest(&self, generation: u64, written: u64) -> Result<Digest, Status> {
        let mut frontier = self.frontier();
        let done = frontier
            .wait_for(|now| {
                now.failed.is_some() || (now.generation == generation && now.hashed == written && now.digest.is_some())
            })
            .await
            .map_err(|_gone| Status::aborted("the ingest was closed"))?
            .clone();
        match (done.failed, done.digest) {
            (Some(status), _) => Err(status),
            (None, Some(digest)) => Ok(digest),
            (None, None) => Err(Status::internal("the hasher forgot its digest")),
        }
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.order(|orders| orders.closed = true);
    }
}

fn run(path: &Path, orders: &(Mutex<Orders>, Condvar), tell: &watch::Sender<Frontier>) {
    if let Err(error) = follow(path, orders, tell) {
        let status = Status::io("read back", path, &error);
        tell.send_modify(|frontier| frontier.failed = Some(status));
    }
}

fn follow(path: &Path, orders: &(Mutex<Orders>, Condvar), tell: &watch::Sender<Frontier>) -> io::Result<()> {
    let mut buffer = vec![0_u8; CHUNK];
    let mut current: Option<(u64, File)> = None;
    let (mut state, mut hashed) = (sha2::Sha256::new(), 0_u64);
    // Differs from every length, so that an empty file gets its digest too.
    let mut told = u64::MAX;
    loop {
        let (generation, written) = {
            let mut now = lock(&orders.0);
            loop {
                let same = current.as_ref().is_some_and(|(generation, _)| *generation == now.generation);
                if now.closed {
                    return Ok(());
                }
                if !same || now.written != told {
                    break (now.generation, now.written);
                }
                now = orders.1.wait(now).unwrap_or_else(PoisonError::into_inner);
            }
        };
        if current.as_ref().is_none_or(|(known, _)| *known != generation) {
            current = Some((generation, File::open(path)?));
            (state, hashed, told) = (sha2::Sha256::new(), 0, u64::MAX);
        }
        let Some((_, file)) = &mut current else { continue };
        if hashed < written {
            let want = usize::try_from(written - hashed).unwrap_or(CHUNK).min(CHUNK);
            let Some(part) = buffer.get_mut(..want) else { continue };
            file.read_exact(part)?;
            state.update(&*part);
            hashed += want as u64;
        }
        let digest = (hashed == written).then(|| Digest::from_sha256(state.clone().finalize().into()));
        if digest.is_some() {
            told = written;
        }
        tell.send_replace(Frontier { generation, hashed, digest, failed: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn follows_the_writer_and_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let bytes: Vec<u8> = (0..3 * CHUNK + 17).map(|n| n as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let hasher = Hasher::start(path.clone(), 1).unwrap();
        assert_eq!(hasher.digest(1, 0).await.unwrap(), Digest::of(b""), "nothing written yet");
        for upto in [5, CHUNK + 1, bytes.len()] {
            hasher.advance(upto as u64);
            assert_eq!(hasher.digest(1, upto as u64).await.unwrap(), Digest::of(&bytes[..upto]));
        }
        std::fs::write(dir.path().join("new"), b"other").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        hasher.restart_if(2);
        hasher.advance(5);
        assert_eq!(hasher.digest(2, 5).await.unwrap(), Digest::of(b"other"));
    }

    #[tokio::test]
    async fn a_file_that_shrank_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::fs::write(&path, b"12").unwrap();
        let hasher = Hasher::start(path.clone(), 1).unwrap();
        hasher.advance(3);
        assert!(hasher.digest(1, 3).await.unwrap_err().message.contains(&path.display().to_string()));
    }
}
