//! Locks between unpackers that share a disk: the kernel frees them when a process dies, however it dies.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use berth_model::Status;
use rustix::{fs::FlockOperation, io::Errno};

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// An exclusive lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    /// Closed last, which frees the lock.
    file: File,
    /// A file that was made for the lock alone.
    made: Option<PathBuf>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still held: whoever waits for this file finds out that it is gone, and makes another.
        if let Some(path) = &self.made {
            drop(fs::remove_file(path));
        }
    }
}

enum Taken {
    Held(Lock),
    Busy,
    Gone,
}

impl Lock {
    /// Waits for the lock on a directory. `None`: there is no such directory.
    pub async fn on_dir(path: &Path, patience: Duration) -> Result<Option<Self>, Status> {
        let begun = Instant::now();
        loop {
            match try_dir(path)? {
                Taken::Held(lock) => return Ok(Some(lock)),
                Taken::Gone => return Ok(None),
                Taken::Busy => pause(path, begun, patience).await?,
            }
        }
    }

    /// Waits for the lock of a name, kept as a file in `dir`, which is made.
    pub async fn on_name(dir: &Path, name: &str, patience: Duration) -> Result<Self, Status> {
        fs::create_dir_all(dir).map_err(|error| Status::io("make directory", dir, &error))?;
        let (path, begun) = (dir.join(name.replace('/', "_")), Instant::now());
        loop {
            match try_name(&path)? {
                Taken::Held(lock) => return Ok(lock),
                Taken::Gone => {}
                Taken::Busy => pause(&path, begun, patience).await?,
            }
        }
    }
}

async fn pause(path: &Path, begun: Instant, patience: Duration) -> Result<(), Status> {
    if begun.elapsed() > patience {
        return Err(Status::unavailable(format!(
            "{} is locked by another process, for more than {} s",
            path.display(),
            patience.as_secs()
        )));
    }
    tokio::time::sleep(LOOK_EVERY).await;
    Ok(())
}

fn try_dir(path: &Path) -> Result<Taken, Status> {
    match File::open(path) {
        Ok(file) => flock(file, None, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Taken::Gone),
        Err(error) => Err(Status::io("open", path, &error)),
    }
}

fn try_name(path: &Path) -> Result<Taken, Status> {
    let opened = File::options().create(true).truncate(false).write(true).open(path);
    let file = opened.map_err(|error| Status::io("open", path, &error))?;
    let taken = flock(file, Some(path.to_owned()), path)?;
    let Taken::Held(mut lock) = taken else { return Ok(taken) };
    // Perhaps its last holder removed it after we opened it.
    let ours = lock.file.metadata().map_err(|error| Status::io("look at", path, &error))?;
    match fs::metadata(path) {
        Ok(there) if there.ino() == ours.ino() => Ok(Taken::Held(lock)),
        _ => {
            lock.made = None;
            Ok(Taken::Gone)
        }
    }
}

fn flock(file: File, made: Option<PathBuf>, path: &Path) -> Result<Taken, Status> {
    match rustix::fs::flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Taken::Held(Lock { file, made })),
        Err(Errno::WOULDBLOCK) => Ok(Taken::Busy),
        Err(errno) => Err(Status::io("lock", path, &errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(30);

    #[tokio::test]
    async fn one_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::on_dir(dir.path(), SHORT).await.unwrap().unwrap();
        assert_eq!(Lock::on_dir(dir.path(), SHORT).await.unwrap_err().code, berth_model::Code::Unavailable);
        drop(held);
        assert!(Lock::on_dir(dir.path(), SHORT).await.unwrap().is_some());
        assert!(Lock::on_dir(&dir.path().join("gone"), SHORT).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn names_leave_no_files() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Lock::on_name(dir.path(), "a", SHORT).await, Lock::on_name(dir.path(), "b", SHORT).await);
        assert!(Lock::on_name(dir.path(), "a", SHORT).await.is_err());
        drop((a, b));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// Never two at once, also while files come and go.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_take_turns() {
        let dir = tempfile::tempdir().unwrap();
        let inside = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let turns = (0..8).map(|_| {
            let (path, inside) = (dir.path().to_owned(), inside.clone());
            tokio::spawn(async move {
                for _ in 0..20 {
                    let lock = Lock::on_name(&path, "x", Duration::from_secs(60)).await.unwrap();
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    drop(lock);
                }
            })
        });
        for turn in turns.collect::<Vec<_>>() {
            turn.await.unwrap();
        }
    }
}
