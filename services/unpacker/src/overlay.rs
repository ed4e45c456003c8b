//! The directories of the overlay snapshotter, laid out as containerd's, and the mounts that show them.
//!
//! ```text
//! snapshots/<id>/fs     what this snapshot adds (the upper directory)
//! snapshots/<id>/work   overlayfs' own, of active snapshots
//! snapshots/rm-<id>     on its way out
//! ```

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use berth_failpoint::{Point, check, pass, wanted};
use berth_model::Status;
use berth_wire::types::{Mount, Usage};

use crate::{
    facts::Facts,
    tree::{self, Tree},
};

/// The name of this snapshotter.
pub const NAME: &str = "overlayfs";

/// The directories of one snapshotter.
#[derive(Clone, Debug)]
pub struct Overlay {
    root: PathBuf,
    index_off: bool,
}

impl Overlay {
    /// The snapshotter below `root`; directories are made when they are needed.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        // Kernels that have no index feature refuse the option.
        Self { root: root.to_owned(), index_off: Path::new("/sys/module/overlay/parameters/index").exists() }
    }

    /// Whether it can work here: says what is missing.
    pub fn check(&self) -> Result<(), Status> {
        if !rustix::process::geteuid().is_root() {
            return Err(Status::failed_precondition(
                "unpacking needs root, for owners, devices and overlayfs; run as root, or use --no-unpack to only fetch",
            ));
        }
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !known.lines().any(|line| line.split_whitespace().last() == Some("overlay")) {
            return Err(Status::failed_precondition(
                "this kernel has no overlayfs; load it with `modprobe overlay`, or use --no-unpack to only fetch",
            ));
        }
        self.make_root()
    }

    fn make_root(&self) -> Result<(), Status> {
        let path = self.root.join("snapshots");
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&path)
            .map_err(|error| Status::io("make directory", &path, &error))
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
        self.root.join("snapshots").join(id.to_string())
    }

    /// What a snapshot adds.
    #[must_use]
    pub fn upper(&self, id: u64) -> PathBuf {
        self.dir(id).join("fs")
    }

    /// Makes a snapshot's directories anew. Its root is like that of the one below.
    pub fn make(&self, id: u64, parent: Option<u64>) -> Result<(), Status> {
        self.make_root()?;
        self.remove(id)?;
        let dir = self.dir(id);
        let make = |path: &Path, mode: u32| {
            check(Point::SnapshotMakeDir)
                .and_then(|()| fs::DirBuilder::new().mode(mode).create(path))
                .map_err(|error| Status::io("make directory", path, &error))
        };
        make(&dir, 0o700)?;
        make(&dir.join("fs"), 0o755)?;
        make(&dir.join("work"), 0o711)?;
        if let Some(parent) = parent {
            self.like(id, parent)?;
        }
        Ok(())
    }

    /// Makes the root directory of a snapshot like another's.
    pub fn like(&self, id: u64, other: u64) -> Result<(), Status> {
        let (upper, model) = (self.upper(id), self.upper(other));
        let failed = |path: &Path, errno: rustix::io::Errno| {
            Status::io("copy the root directory's facts of", path, &errno.into())
        };
        let from = Tree::open(&model).map_err(|errno| failed(&model, errno))?;
        let to = Tree::open(&upper).map_err(|errno| failed(&upper, errno))?;
        let stat = rustix::fs::fstat(from.root().fd.as_ref()).map_err(|errno| failed(&model, errno))?;
        let facts = Facts::read(from.root(), b".", &stat).map_err(|errno| failed(&model, errno))?;
        facts.put(to.root(), b".", tree::kind(&stat)).map_err(|error| failed(&upper, error.errno))?;
        crate::facts::set_mtime(to.root(), b".", facts.mtime).map_err(|errno| failed(&upper, errno))
    }

    /// Removes a snapshot's directories: by name at once, then their content. Not there is fine.
    pub fn remove(&self, id: u64) -> Result<(), Status> {
        let dir = self.dir(id);
        let going = self.root.join("snapshots").join(format!("rm-{id}"));
        let put_aside = check(Point::SnapshotPutAside).and_then(|()| fs::rename(&dir, &going));
        match put_aside {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A half-finished removal of the same id is in the way: finish it first.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                self.erase(&going)?;
                fs::rename(&dir, &going).map_err(|error| Status::io("remove", &dir, &error))?;
            }
            Err(error) => return Err(Status::io("remove", &dir, &error)),
        }
        self.erase(&going)
    }

    /// Erases a directory among those of the snapshots.
    pub(crate) fn erase(&self, path: &Path) -> Result<(), Status> {
        let Ok(parent) = fs::File::open(self.root.join("snapshots")) else { return Ok(()) };
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        check(Point::SnapshotErase).map_err(|error| Status::io("remove", path, &error))?;
        tree::remove(std::os::fd::AsFd::as_fd(&parent), name).map_err(|errno| Status::io("remove", path, &errno.into()))
    }

    /// Flushes the file system the snapshots are on.
    pub fn flush(&self, id: u64) -> Result<(), Status> {
        let path = self.upper(id);
        let failed = |error: &io::Error| Status::io("flush the file system of", &path, error);
        let dir = fs::File::open(&path).map_err(|error| failed(&error))?;
        if wanted(Point::SnapshotFlush).map_err(|error| failed(&error))? {
            rustix::fs::syncfs(&dir).map_err(|errno| failed(&errno.into()))?;
        }
        pass(Point::SnapshotFlushed);
        Ok(())
    }

    /// The mounts of a snapshot that is not committed. `parents`: newest first.
    #[must_use]
    pub fn mounts(&self, id: u64, parents: &[u64], view: bool) -> Vec<Mount> {
        let path = |id: u64| self.upper(id).display().to_string();
        let bind = |id: u64, mode: &str| {
            vec![Mount { r#type: "bind".into(), source: path(id), options: vec![mode.into(), "rbind".into()] }]
        };
        match parents {
            [] => bind(id, if view { "ro" } else { "rw" }),
            [only] if view => bind(*only, "ro"),
            parents => {
                let mut options = Vec::new();
                if !view {
                    options.push(format!("workdir={}", self.dir(id).join("work").display()));
                    options.push(format!("upperdir={}", path(id)));
                }
                let lower: Vec<String> = parents.iter().map(|parent| path(*parent)).collect();
                options.push(format!("lowerdir={}", lower.join(":")));
                if self.index_off {
                    options.push("index=off".to_owned());
                }
                vec![Mount { r#type: "overlay".into(), source: "overlay".into(), options }]
            }
        }
    }

    /// What a snapshot adds, counted by a walk: bytes on disk, each file once.
    pub fn usage(&self, id: u64) -> Result<Usage, Status> {
        let mut seen = std::collections::HashSet::new();
        let mut usage = Usage::default();
        let mut todo = vec![self.upper(id)];
        while let Some(path) = todo.pop() {
            let facts = match fs::symlink_metadata(&path) {
                Ok(facts) => facts,
                // An active snapshot changes while we look.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Status::io("look at", &path, &error)),
            };
            if seen.insert((facts.dev(), facts.ino())) {
                usage.inodes += 1;
                usage.size += facts.blocks() * 512;
            }
            if facts.is_dir() {
                let entries = fs::read_dir(&path).map_err(|error| Status::io("list", &path, &error))?;
                todo.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())));
            }
        }
        Ok(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_containerds() {
        let overlay = Overlay { root: "/r".into(), index_off: true };
        let shown =
            |mounts: Vec<Mount>| format!("{} {} {}", mounts[0].r#type, mounts[0].source, mounts[0].options.join(","));
        let fs = |id: u64| format!("/r/snapshots/{id}/fs");
        for (parents, view, wanted) in [
            (&[][..], false, format!("bind {} rw,rbind", fs(9))),
            (&[], true, format!("bind {} ro,rbind", fs(9))),
            (&[3], true, format!("bind {} ro,rbind", fs(3))),
            (
                &[3],
                false,
                format!("overlay overlay workdir=/r/snapshots/9/work,upperdir={},lowerdir={},index=off", fs(9), fs(3)),
            ),
            (&[3, 2], true, format!("overlay overlay lowerdir={}:{},index=off", fs(3), fs(2))),
        ] {
            assert_eq!(shown(overlay.mounts(9, parents, view)), wanted);
        }
    }

    /// As a removal and a collection of directories without records may.
    #[test]
    fn several_remove_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = Overlay::new(dir.path());
        for id in 1..8 {
            overlay.make(id, None).unwrap();
            for number in 0..40 {
                fs::create_dir_all(overlay.upper(id).join(format!("{number}/below"))).unwrap();
            }
            std::thread::scope(|scope| {
                let removals: Vec<_> = (0..3).map(|_| scope.spawn(|| overlay.remove(id))).collect();
                removals.into_iter().for_each(|removal| removal.join().unwrap().unwrap());
            });
            assert!(!overlay.dir(id).exists());
        }
        assert_eq!(fs::read_dir(dir.path().join("snapshots")).unwrap().count(), 0);
    }

    #[test]
    fn removal_survives_a_half_finished_one() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = Overlay::new(dir.path());
        overlay.make(1, None).unwrap();
        fs::create_dir_all(dir.path().join("snapshots/rm-1/fs/x")).unwrap();
        overlay.remove(1).unwrap();
        overlay.remove(1).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("snapshots")).unwrap().count(), 0);
    }
}
