//! The directories of one snapshotter, as containerd lays out its own.
//!
//! ```text
//! snapshots/<id>/fs     what the snapshot adds (overlayfs), or all it shows (native)
//! snapshots/<id>/work   overlayfs' own, of active snapshots
//! snapshots/new-<id>    being made
//! snapshots/rm-<id>     on its way out: renamed at once, erased later
//! locks/                of unpackings in progress
//! scratch/              of diffs in progress
//! ```

use std::{
    fs, io,
    os::{fd::AsFd as _, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
};

use berth_failpoint::{Point, check, pass, wanted};
use berth_model::Status;
use rustix::{fs::FlockOperation, io::Errno};

use crate::tree;

/// Where a snapshotter keeps its snapshots.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Below `root`; directories are made when they are needed.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The directory it is all below.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where all snapshots are.
    #[must_use]
    pub fn all(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Where unpackings in progress keep their locks.
    #[must_use]
    pub fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// The directory of a snapshot.
    #[must_use]
    pub fn dir(&self, id: u64) -> PathBuf {
        self.all().join(id.to_string())
    }

    /// The tree of a snapshot.
    #[must_use]
    pub fn tree(&self, id: u64) -> PathBuf {
        self.dir(id).join("fs")
    }

    /// overlayfs' own directory of an active snapshot.
    #[must_use]
    pub fn work(&self, id: u64) -> PathBuf {
        self.dir(id).join("work")
    }

    /// Makes the directory that all snapshots are in.
    pub fn make_root(&self) -> Result<(), Status> {
        make_dirs(&self.all())
    }

    /// A directory for something that will not outlive a call.
    pub fn scratch(&self) -> Result<Scratch, Status> {
        let dir = self.root.join("scratch");
        make_dirs(&dir)?;
        loop {
            let path = dir.join(uuid::Uuid::new_v4().simple().to_string());
            make_dir(&path, 0o700)?;
            // A cleanup may have come between, and taken it for one that a crash left.
            if let Some(held) = hold(&path)? {
                return Ok(Scratch { path, _held: held });
            }
        }
    }

    /// Makes the directory of a snapshot anew: `fill` makes what is in it, under another name; it has its own when it is
    /// whole, so a directory that is there always is.
    pub fn make(&self, id: u64, fill: impl FnOnce(&Path) -> Result<(), Status>) -> Result<(), Status> {
        self.make_root()?;
        self.doom(id)?;
        let (making, dir) = (self.all().join(format!("new-{id}")), self.dir(id));
        erase(&making)?;
        make_dir(&making, 0o700)?;
        fill(&making)?;
        pass(Point::SnapshotFilled);
        fs::rename(&making, &dir).map_err(|error| Status::io("make", &dir, &error))?;
        pass(Point::SnapshotMade);
        Ok(())
    }

    /// Takes a snapshot's directory out of the way; what is in it goes with [`Layout::sweep`]. Not there is fine.
    pub fn doom(&self, id: u64) -> Result<(), Status> {
        let (dir, going) = (self.dir(id), self.all().join(format!("rm-{id}")));
        let put_aside = check(Point::SnapshotPutAside).and_then(|()| fs::rename(&dir, &going));
        match put_aside {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // A half-finished removal of the same id is in the way: finish it first.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                erase(&going)?;
                fs::rename(&dir, &going).map_err(|error| Status::io("remove", &dir, &error))
            }
            Err(error) => Err(Status::io("remove", &dir, &error)),
        }
    }

    /// Removes a snapshot's directory with all that is in it.
    pub fn remove(&self, id: u64) -> Result<(), Status> {
        self.doom(id)?;
        self.finish(id)
    }

    /// Erases what was doomed, and what calls that died had for their time.
    pub fn sweep(&self) -> Result<(), Status> {
        self.sweep_scratch()?;
        for name in names(&self.all())?.iter().filter(|name| name.starts_with("rm-")) {
            erase(&self.all().join(name))?;
        }
        Ok(())
    }

    /// Erases what calls that died had for their time.
    pub fn sweep_scratch(&self) -> Result<(), Status> {
        let scratch = self.root.join("scratch");
        for name in names(&scratch)? {
            let path = scratch.join(name);
            // Whoever uses it holds it.
            if let Some(_held) = hold(&path)? {
                erase(&path)?;
            }
        }
        Ok(())
    }

    /// Erases what was doomed under this id.
    pub fn finish(&self, id: u64) -> Result<(), Status> {
        erase(&self.all().join(format!("rm-{id}")))
    }

    /// The ids that have a directory.
    pub fn ids(&self) -> Result<Vec<u64>, Status> {
        Ok(names(&self.all())?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Flushes the file system a snapshot is on.
    pub fn flush(&self, id: u64) -> Result<(), Status> {
        flush(&self.tree(id))
    }
}

/// The names in a directory; none if it is not there.
fn names(path: &Path) -> Result<Vec<String>, Status> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Status::io("list", path, &error)),
    };
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

/// Takes the lock of a directory, which the kernel frees when its holder dies. `None`: somebody has it, or it is gone.
fn hold(path: &Path) -> Result<Option<fs::File>, Status> {
    let dir = match fs::File::open(path) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Status::io("open", path, &error)),
    };
    match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        // Whoever had it before may have removed it.
        Ok(()) if path.exists() => Ok(Some(dir)),
        Ok(()) | Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(Status::io("lock", path, &errno.into())),
    }
}

/// A directory that goes when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _held: fs::File,
}

impl Scratch {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(status) = erase(&self.path) {
            tracing::warn!(%status, "a scratch directory stays until the next cleanup");
        }
    }
}

/// Flushes the file system a directory is on.
pub fn flush(path: &Path) -> Result<(), Status> {
    let failed = |error: &io::Error| Status::io("flush the file system of", path, error);
    let dir = fs::File::open(path).map_err(|error| failed(&error))?;
    if wanted(Point::SnapshotFlush).map_err(|error| failed(&error))? {
        rustix::fs::syncfs(&dir).map_err(|errno| failed(&errno.into()))?;
    }
    pass(Point::SnapshotFlushed);
    Ok(())
}

/// Makes one directory with exactly this mode.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), Status> {
    let failed = |error: &io::Error| Status::io("make directory", path, error);
    let made = check(Point::SnapshotMakeDir).and_then(|()| fs::DirBuilder::new().mode(mode).create(path));
    made.map_err(|error| failed(&error))?;
    // Whatever the umask is.
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).map_err(|error| failed(&error))
}

fn make_dirs(path: &Path) -> Result<(), Status> {
    let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.map_err(|error| Status::io("make directory", path, &error))
}

/// Removes a path and all below it. Not there is fine.
pub(crate) fn erase(path: &Path) -> Result<(), Status> {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else { return Ok(()) };
    let Ok(parent) = fs::File::open(parent) else { return Ok(()) };
    check(Point::SnapshotErase).map_err(|error| Status::io("remove", path, &error))?;
    tree::remove(parent.as_fd(), name.as_encoded_bytes()).map_err(|errno| Status::io("remove", path, &errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_is_at_once_and_erasing_later() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.sweep().unwrap();
        layout.make(7, |dir| make_dir(&dir.join("fs"), 0o755)).unwrap();
        fs::write(layout.tree(7).join("x"), "x").unwrap();
        assert_eq!(layout.ids().unwrap(), [7]);
        layout.doom(7).unwrap();
        layout.doom(7).unwrap();
        assert_eq!((layout.ids().unwrap(), layout.all().join("rm-7/fs/x").exists()), (vec![], true));
        layout.sweep().unwrap();
        assert_eq!(fs::read_dir(layout.all()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_there_is_whole() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.make(7, |_| Err(Status::internal("no"))).unwrap_err();
        assert!(layout.all().join("new-7").exists() && !layout.dir(7).exists());
        layout.make(7, |_| Ok(())).unwrap();
        assert!(!layout.all().join("new-7").exists() && layout.dir(7).exists());
    }

    /// A removal's own erasing and a cleanup may meet.
    #[test]
    fn many_erase_at_once() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        for round in 0..5 {
            layout.make(round, |_| Ok(())).unwrap();
            for n in 0..200 {
                fs::create_dir_all(layout.tree(round).join(format!("{}/{n}/deep", n % 7))).unwrap();
            }
            layout.doom(round).unwrap();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| layout.sweep().unwrap());
                }
            });
            assert_eq!(fs::read_dir(layout.all()).unwrap().count(), 0);
        }
    }

    #[test]
    fn scratch_goes() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let path = {
            let scratch = layout.scratch().unwrap();
            fs::create_dir_all(scratch.path().join("a/b")).unwrap();
            scratch.path().to_owned()
        };
        assert!(!path.exists() && path.parent().unwrap().exists());
    }

    #[test]
    fn scratch_in_use_stays_and_what_a_crash_left_goes() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let used = layout.scratch().unwrap();
        let left = root.path().join("scratch/left");
        fs::create_dir_all(left.join("a/b")).unwrap();
        layout.sweep().unwrap();
        assert!(used.path().exists() && !left.exists());
    }
}
