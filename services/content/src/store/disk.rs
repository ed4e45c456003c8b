//! What the store asks of a disk, step by step, so that tests can stop between any two; and the real disk.

use std::{
    collections::HashMap,
    fs::{self, File, Permissions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use berth_failpoint::{Point, check, wanted};
use berth_kv::Durability;

use crate::store::together::Together;

/// Single changes of a disk. Each is done or not done when it returns, but none is on disk before it was flushed: a change
/// of a file's bytes by [`Disk::flush`], a name that came or went by [`Disk::flush_dir`] of its directory.
pub(crate) trait Disk: Send + Sync {
    /// Makes a directory, and those above it that are missing. One that is there stays as it is.
    fn make_dir(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Makes an empty file; one that is there is cut to nothing.
    fn create(&self, path: &Path) -> io::Result<()>;
    /// Makes a small file with this text. A crash may leave it empty or half written.
    fn write(&self, path: &Path, text: &str) -> io::Result<()>;
    /// Makes a new file of the first `length` bytes of another. It shares no later change with that one.
    fn copy(&self, from: &Path, to: &Path, length: u64) -> io::Result<()>;
    /// Returns when a file's bytes and its length are on disk. After an error nobody knows which of them are, and asking
    /// again may answer that all is well.
    fn flush(&self, path: &Path) -> io::Result<()>;
    /// Returns when the names in a directory are on disk.
    fn flush_dir(&self, path: &Path) -> io::Result<()>;
    /// Says who may open a file, and for what. Who has it open may go on.
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Gives a file another name, within one file system, and takes it from whoever had that. There is no instant at which
    /// the new name is missing or means half a file; a crash leaves the one or the other state.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a file's name away. Who has it open may go on reading.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all that is in it, in any order.
    fn remove_tree(&self, path: &Path) -> io::Result<()>;
}

/// The disk of this host.
#[derive(Debug)]
pub(crate) struct Host {
    durability: Durability,
    /// Those that are being flushed.
    directories: Mutex<HashMap<PathBuf, Arc<Together>>>,
}

impl Host {
    pub(crate) fn new(durability: Durability) -> Self {
        Self { durability, directories: Mutex::default() }
    }

    fn directories(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<Together>>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Host {
    fn make_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        check(Point::ContentMakeDir)?;
        fs::DirBuilder::new().mode(mode).recursive(true).create(path)
    }

    fn create(&self, path: &Path) -> io::Result<()> {
        check(Point::ContentCreate)?;
        File::create(path).map(drop)
    }

    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        check(Point::ContentWrite)?;
        fs::write(path, text)
    }

    fn copy(&self, from: &Path, to: &Path, length: u64) -> io::Result<()> {
        check(Point::ContentCopy)?;
        // Between files this is copy_file_range: blocks are shared where the file system can.
        let copied = io::copy(&mut File::open(from)?.take(length), &mut File::create(to)?)?;
        if copied == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn flush(&self, path: &Path) -> io::Result<()> {
        match self.durability {
            Durability::Synced if wanted(Point::ContentFlush)? => File::open(path)?.sync_data(),
            _ => Ok(()),
        }
    }

    fn flush_dir(&self, path: &Path) -> io::Result<()> {
        match self.durability {
            Durability::Synced if wanted(Point::ContentFlushDir)? => {
                let together = Arc::clone(self.directories().entry(path.to_owned()).or_default());
                let done = together.run(|| File::open(path)?.sync_all());
                drop(together);
                self.directories().retain(|_, flushes| Arc::strong_count(flushes) > 1);
                done
            }
            _ => Ok(()),
        }
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        check(Point::ContentSetMode)?;
        fs::set_permissions(path, Permissions::from_mode(mode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        check(Point::ContentRename)?;
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        check(Point::ContentRemoveFile)?;
        fs::remove_file(path)
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        check(Point::ContentRemoveTree)?;
        fs::remove_dir_all(path)
    }
}
