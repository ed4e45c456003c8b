//! What of a directory was read since: the file system notes the time of the last read of each file, and of each listing.
//!
//! Times are looked at only (`stat` changes none). A file system that is mounted `relatime`, as is usual, notes a read if the last
//! one noted is older than a day; so all are set to 1970 before. One that is mounted `noatime` notes nothing, and is refused.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat},
    io::Errno,
};

/// A directory with all that is in it, of which nothing was read yet.
pub struct Access {
    all: Vec<PathBuf>,
}

impl Access {
    /// From now on.
    pub fn watch(root: &Path) -> Result<Self> {
        let mut all = vec![root.to_owned()];
        let mut next = 0;
        while let Some(path) = all.get(next).cloned() {
            // Stores in use lose a file now and then.
            if fs::symlink_metadata(&path).is_ok_and(|facts| facts.is_dir()) {
                let entries = fs::read_dir(&path).with_context(|| path.display().to_string())?;
                all.extend(entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?);
            }
            next += 1;
        }
        for path in &all {
            forget(path)?;
        }
        // Does it note one of ours?
        drop(fs::read_dir(root)?.next());
        ensure!(
            is_read(root),
            "{} is mounted noatime: what is read is not known; set TMPDIR elsewhere",
            root.display()
        );
        forget(root)?;
        Ok(Self { all })
    }

    /// What was read, or listed, since; of what is still there.
    #[must_use]
    pub fn read(&self) -> Vec<&Path> {
        self.all.iter().map(PathBuf::as_path).filter(|path| is_read(path)).collect()
    }
}

fn forget(path: &Path) -> Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: 0 },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    };
    match utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn is_read(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|facts| facts.atime() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_told_and_a_look_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (listed, below, looked_at) = (dir.path().join("a"), dir.path().join("a/b"), dir.path().join("c"));
        fs::create_dir(&listed).unwrap();
        fs::write(&below, b"bytes").unwrap();
        fs::write(&looked_at, b"bytes").unwrap();
        let access = Access::watch(dir.path()).unwrap();
        assert_eq!(access.read(), Vec::<&Path>::new());
        fs::metadata(&looked_at).unwrap();
        drop(fs::File::open(&looked_at).unwrap());
        assert_eq!(fs::read_dir(&listed).unwrap().count(), 1);
        fs::read(&below).unwrap();
        assert_eq!(access.read(), [listed, below]);
    }
}
