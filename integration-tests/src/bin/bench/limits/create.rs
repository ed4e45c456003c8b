//! Making directories and files of given sizes, as fast as a disk and its file system take them.

use std::{
    ffi::OsStr,
    fs,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::fs::{FallocateFlags, Mode, OFlags};

/// A file as large as this may be written past the page cache: where Berth does it, too (`services/unpacker/src/bypass.rs`).
pub(super) const LARGE: u64 = 8 << 20;
/// What memory and places in a file have to be aligned to for that.
const BLOCK: usize = 4096;
/// Written at once.
const PIECE: usize = 1 << 20;
/// Files that one thread makes, one after the other.
const AT_ONCE: usize = 64;

/// How large files are written.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Way {
    /// As all others.
    Through,
    /// By `O_DIRECT`.
    Past,
}

/// What is to be made.
pub(super) struct Work<'a> {
    directories: Vec<&'a [PathBuf]>,
    /// Parts for one thread each: files of one directory.
    files: Vec<&'a [(PathBuf, u64)]>,
}

impl<'a> Work<'a> {
    /// Of relative names, those of one tree, and files of one directory, side by side.
    pub(super) fn new(directories: &'a [PathBuf], files: &'a [(PathBuf, u64)]) -> Self {
        // Nothing of one tree waits for another one.
        let directories = directories.chunk_by(|one, other| one.iter().next() == other.iter().next()).collect();
        // A directory takes one new name at a time.
        let neighbours = files.chunk_by(|(one, _), (other, _)| one.parent() == other.parent());
        let mut files: Vec<_> = neighbours.flat_map(|neighbours| neighbours.chunks(AT_ONCE)).collect();
        // What takes longest must not be begun last.
        let largest = |part: &[(PathBuf, u64)]| part.iter().map(|(_, size)| *size).max().filter(|size| *size >= LARGE);
        files.sort_by_key(|part| std::cmp::Reverse(largest(part)));
        Self { directories, files }
    }

    /// Makes all of it below an empty directory.
    pub(super) fn done(&self, cpus: usize, root: &Path, way: Way) -> Result<()> {
        super::on(cpus, &self.directories, |_, tree| {
            tree.iter().try_for_each(|directory| {
                fs::create_dir_all(root.join(directory)).with_context(|| format!("make {}", directory.display()))
            })
        })?;
        let memory = vec![7; PIECE + BLOCK];
        let bytes = memory.get(memory.as_ptr().align_offset(BLOCK)..).and_then(|bytes| bytes.get(..PIECE));
        let bytes = bytes.context("memory has been aligned")?;
        super::on(cpus, &self.files, |_, part| {
            let Some((first, _)) = part.first() else { return Ok(()) };
            let directory = fs::File::open(root.join(first.parent().unwrap_or(Path::new(""))))?;
            part.iter().try_for_each(|(path, size)| {
                let name = path.file_name().context("a file has a name")?;
                let way = if *size < LARGE { Way::Through } else { way };
                write(directory.as_fd(), name, *size, bytes, way).with_context(|| format!("make {}", path.display()))
            })
        })
    }
}

/// Makes a file of so many bytes.
fn write(directory: BorrowedFd<'_>, name: &OsStr, size: u64, bytes: &[u8], way: Way) -> Result<()> {
    let mut flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut left = size;
    if way == Way::Past {
        flags |= OFlags::DIRECT;
        left = left.next_multiple_of(BLOCK as u64);
    }
    let file = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o644))?;
    if way == Way::Past {
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, left)?;
    }
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(bytes.len()).min(bytes.len());
        let written = rustix::io::write(&file, bytes.get(..length).unwrap_or_default())?;
        anyhow::ensure!(written > 0, "nothing more can be written");
        left -= written as u64;
    }
    if way == Way::Past {
        rustix::fs::ftruncate(&file, size)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_there() {
        let directories = ["one", "one/deep", "one/deep/er", "two"].map(PathBuf::from);
        let mut files = vec![("blob".into(), 3), ("one/large".into(), LARGE + 5), ("two/empty".into(), 0)];
        files.extend((0..2 * AT_ONCE).map(|n| (format!("one/deep/{n}").into(), n as u64)));
        files.sort();
        let root = tempfile::tempdir().unwrap();
        for way in [Way::Through, Way::Past] {
            let root = root.path().join(if way == Way::Past { "past" } else { "through" });
            fs::create_dir(&root).unwrap();
            Work::new(&directories, &files).done(2, &root, way).unwrap();
            for (path, size) in &files {
                assert_eq!(fs::metadata(root.join(path)).unwrap().len(), *size, "{}", path.display());
            }
            assert!(root.join("one/deep/er").is_dir());
        }
    }
}
