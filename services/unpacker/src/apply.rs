//! Applies the entries of a layer's archive to a directory, in overlayfs form (kernel,
//! `Documentation/filesystems/overlayfs.rst`): a whiteout becomes a character device 0/0, an opaque directory gets an
//! attribute. The directory sees only this layer.
//!
//! Whiteouts speak of lower layers only: one for a name that this layer makes, before or after, does not take it away; if the
//! name is a directory here, it becomes opaque.

use std::{
    fs::File,
    io::{Read, Seek as _, SeekFrom, Write as _},
    os::fd::AsFd as _,
    path::Path,
};

use berth_failpoint::{Point, check};
use rustix::{
    fs::{AtFlags, Dev, FileType, Mode, OFlags},
    io::Errno,
};
use tar::EntryType;

use crate::{
    archive::{self, Archive},
    entry::Entry,
    error::ApplyError,
    facts::{self, Facts},
    name::{self, Place, Wish},
    residue::Residue,
    tree::{self, Dir, Tree, Unreachable},
};

/// Bytes copied at once.
const COPY_BYTES: usize = 256 << 10;

/// Applies a whole archive to the directory `upper`. `cancelled` is asked before each entry.
pub fn apply(archive: &mut dyn Read, upper: &Path, cancelled: &dyn Fn() -> bool) -> Result<Residue, ApplyError> {
    let tree = Tree::open(upper).map_err(|errno| ApplyError::refused(b"/", "open the directory", errno))?;
    let mut applier = Applier { tree, residue: Residue::default(), buffer: vec![0; COPY_BYTES] };
    let mut archive = Archive::new(archive);
    while let Some(entry) = archive.next()? {
        if cancelled() {
            return Err(ApplyError::Cancelled);
        }
        check(Point::UnpackEntry).map_err(|error| ApplyError::refused(&entry.name, "make it", error))?;
        applier.entry(&entry, &mut archive)?;
    }
    let mut residue = applier.residue;
    residue.links.retain(|(name, _)| !residue.implied.contains(name));
    set_times(&mut applier.tree, &residue.times)?;
    Ok(residue)
}

/// Sets directories' times, the deepest first: setting one does not change those above.
pub(crate) fn set_times(tree: &mut Tree, times: &[(Place, (i64, u32))]) -> Result<(), ApplyError> {
    let mut times: Vec<_> = times.iter().collect();
    times.sort_by_key(|(place, _)| std::cmp::Reverse(place.0.len()));
    for (place, mtime) in times {
        let dir = match place.split() {
            None => Ok((tree.root().clone(), b".".to_vec())),
            Some((parent, name)) => tree.dir(&parent).map(|dir| (dir, name.to_vec())),
        };
        // It may have been replaced or moved since.
        let Ok((dir, name)) = dir else { continue };
        match facts::set_mtime(&dir, &name, *mtime) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(ApplyError::refused(place.shown().as_bytes(), "set its time", errno)),
        }
    }
    Ok(())
}

struct Applier {
    tree: Tree,
    residue: Residue,
    buffer: Vec<u8>,
}

impl Applier {
    fn entry(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), ApplyError> {
        match name::wish(&entry.name)? {
            Wish::Ignored => Ok(()),
            Wish::Opaque(place) => self.opaque(entry, &place),
            Wish::Whiteout(place) => self.whiteout(entry, &place),
            Wish::Entry(place) => self.make(entry, &place, data),
        }
    }

    /// The directory an entry goes into, made if it is not there.
    fn parent(&mut self, entry: &Entry, place: &Place) -> Result<Dir, ApplyError> {
        loop {
            let missing = match self.tree.dir(place) {
                Ok(dir) => return Ok(dir),
                Err(Unreachable::Missing(missing)) => missing,
                Err(Unreachable::NotADirectory(at)) => {
                    if self.was_whiteout(entry, &at)? {
                        // It was hidden, and comes again as a directory: what lower layers have in it stays hidden.
                        self.implied_dir(entry, &at, true)?;
                        continue;
                    }
                    let reason = format!("{} is no directory, and this goes below it", at.shown());
                    return Err(ApplyError::hostile(&entry.name, reason));
                }
                Err(Unreachable::TooManyLinks) => {
                    return Err(ApplyError::hostile(&entry.name, "its path goes through too many symbolic links"));
                }
                Err(Unreachable::System(errno)) => {
                    return Err(ApplyError::refused(&entry.name, "reach its directory", errno));
                }
            };
            self.implied_dir(entry, &missing, false)?;
        }
    }

    /// Removes a whiteout at a place; `false` if there is none.
    fn was_whiteout(&mut self, entry: &Entry, place: &Place) -> Result<bool, ApplyError> {
        let Some((above, name)) = place.split() else { return Ok(false) };
        let Ok(dir) = self.tree.dir(&above) else { return Ok(false) };
        let refused = |errno| ApplyError::refused(&entry.name, "replace a whiteout", errno);
        if !dir.stat(name).map_err(refused)?.is_some_and(|stat| tree::is_whiteout(&stat)) {
            return Ok(false);
        }
        rustix::fs::unlinkat(dir.fd.as_fd(), name, AtFlags::empty()).map_err(refused)?;
        Ok(true)
    }

    fn implied_dir(&mut self, entry: &Entry, place: &Place, opaque: bool) -> Result<(), ApplyError> {
        let Some((above, name)) = place.split() else { return Ok(()) };
        let dir = self.parent(entry, &above)?;
        let refused = |errno| ApplyError::refused(&entry.name, "make a directory above it", errno);
        rustix::fs::mkdirat(dir.fd.as_fd(), name, Mode::from_raw_mode(0o755)).map_err(refused)?;
        tree::make_plain(&dir, name).map_err(refused)?;
        self.residue.count(4096);
        let at = dir.place.join(name);
        if opaque {
            facts::set_opaque(&dir, name).map_err(refused)?;
        } else {
            self.residue.implied.insert(at);
        }
        Ok(())
    }

    fn opaque(&mut self, entry: &Entry, place: &Place) -> Result<(), ApplyError> {
        let dir = self.parent(entry, place)?;
        facts::set_opaque(&dir, b".")
            .map_err(|errno| ApplyError::refused(&entry.name, "mark its directory opaque", errno))
    }

    fn whiteout(&mut self, entry: &Entry, place: &Place) -> Result<(), ApplyError> {
        let Some((above, name)) = place.split() else { return Ok(()) };
        let dir = self.parent(entry, &above)?;
        let refused = |errno| ApplyError::refused(&entry.name, "make a whiteout", errno);
        match dir.stat(name).map_err(refused)? {
            None => {
                let mode = Mode::from_raw_mode(0);
                rustix::fs::mknodat(dir.fd.as_fd(), name, FileType::CharacterDevice, mode, 0).map_err(refused)?;
                self.residue.whiteouts.insert(dir.place.join(name));
                self.residue.count(0);
                Ok(())
            }
            Some(stat) if tree::kind(&stat) == FileType::Directory => {
                self.residue.implied.remove(&dir.place.join(name));
                facts::set_opaque(&dir, name).map_err(refused)
            }
            // This layer's own; what is below is hidden by it anyway.
            Some(_) => Ok(()),
        }
    }

    fn make(&mut self, entry: &Entry, place: &Place, data: &mut impl Read) -> Result<(), ApplyError> {
        let Some((above, name)) = place.split() else { return self.make_root(entry) };
        let dir = self.parent(entry, &above)?;
        let at = dir.place.join(name);
        let is_dir = entry.kind == EntryType::Directory;
        let keep = self.clear(entry, &dir, name, &at, is_dir)?;
        self.residue.own(&at);
        let refused = |doing| move |errno: Errno| ApplyError::refused(&entry.name, doing, errno);
        let fd = dir.fd.as_fd();
        let kind = match entry.kind {
            EntryType::Directory => {
                if keep != Cleared::Directory {
                    rustix::fs::mkdirat(fd, name, Mode::from_raw_mode(0o700)).map_err(refused("make a directory"))?;
                    self.residue.count(4096);
                }
                if keep == Cleared::Whiteout {
                    facts::set_opaque(&dir, name).map_err(refused("mark it opaque"))?;
                }
                self.residue.times.retain(|(known, _)| *known != at);
                self.residue.times.push((at, entry.facts.mtime));
                FileType::Directory
            }
            EntryType::Link => return self.link(entry, &dir, name, at),
            EntryType::Symlink => {
                let target = entry.target.as_slice();
                if target.is_empty() || target.contains(&0) {
                    return Err(ApplyError::hostile(&entry.name, "a symbolic link without a usable target"));
                }
                rustix::fs::symlinkat(target, fd, name).map_err(refused("make a symbolic link"))?;
                self.residue.count(0);
                FileType::Symlink
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (kind, device): (FileType, Dev) = match entry.kind {
                    EntryType::Char => (FileType::CharacterDevice, rustix::fs::makedev(entry.device.0, entry.device.1)),
                    EntryType::Block => (FileType::BlockDevice, rustix::fs::makedev(entry.device.0, entry.device.1)),
                    _ => (FileType::Fifo, 0),
                };
                let doing = if kind == FileType::Fifo { "make a fifo" } else { "make a device" };
                rustix::fs::mknodat(fd, name, kind, Mode::from_raw_mode(0o600), device).map_err(refused(doing))?;
                self.residue.count(0);
                kind
            }
            _ => {
                self.file(entry, &dir, name, data)?;
                FileType::RegularFile
            }
        };
        put(entry, &entry.facts, &dir, name, kind)
    }

    /// The layer says what its root is like.
    fn make_root(&mut self, entry: &Entry) -> Result<(), ApplyError> {
        if entry.kind != EntryType::Directory {
            return Err(ApplyError::hostile(&entry.name, "the root of a layer can only be a directory"));
        }
        let root = self.tree.root().clone();
        self.residue.times.retain(|(known, _)| !known.0.is_empty());
        self.residue.times.push((Place::default(), entry.facts.mtime));
        put(entry, &entry.facts, &root, b".", FileType::Directory)
    }

    /// Makes room for an entry; a directory stays for a directory.
    fn clear(
        &mut self,
        entry: &Entry,
        dir: &Dir,
        name: &[u8],
        at: &Place,
        for_dir: bool,
    ) -> Result<Cleared, ApplyError> {
        let refused = |errno| ApplyError::refused(&entry.name, "replace what is there", errno);
        let Some(stat) = dir.stat(name).map_err(refused)? else { return Ok(Cleared::Nothing) };
        let is_dir = tree::kind(&stat) == FileType::Directory;
        if is_dir && for_dir {
            return Ok(Cleared::Directory);
        }
        tree::remove(dir.fd.as_fd(), name).map_err(refused)?;
        self.residue.inodes = self.residue.inodes.saturating_sub(1);
        self.residue.forget_below(at);
        self.tree.forget();
        // Whatever it was, it hid a directory of that name below.
        Ok(if is_dir { Cleared::Nothing } else { Cleared::Whiteout })
    }

    /// A hard link; one whose target this layer has not is settled when the layers below are known.
    fn link(&mut self, entry: &Entry, dir: &Dir, name: &[u8], at: Place) -> Result<(), ApplyError> {
        let target = Place::parse(&entry.target).map_err(|_out| {
            let target = crate::error::shown(&entry.target);
            ApplyError::hostile(&entry.name, format!("a hard link to {target:?}, which leads out of the layer"))
        })?;
        let Some((above, base)) = target.split() else {
            return Err(ApplyError::hostile(&entry.name, "a hard link to the root of the layer"));
        };
        let refused = |errno| ApplyError::refused(&entry.name, "make a hard link", errno);
        if let Ok(from) = self.tree.dir(&above)
            && let Some(stat) = from.stat(base).map_err(refused)?
            && !tree::is_whiteout(&stat)
        {
            if tree::kind(&stat) == FileType::Directory {
                return Err(ApplyError::hostile(&entry.name, "a hard link to a directory"));
            }
            return rustix::fs::linkat(from.fd.as_fd(), base, dir.fd.as_fd(), name, AtFlags::empty()).map_err(refused);
        }
        self.residue.links.push((at, target));
        Ok(())
    }

    fn file(&mut self, entry: &Entry, dir: &Dir, name: &[u8], data: &mut impl Read) -> Result<(), ApplyError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir.fd.as_fd(), name, flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| ApplyError::refused(&entry.name, "make a file", errno))?;
        let mut file = File::from(fd);
        let written = match entry.segments(data)? {
            Some((segments, size)) => {
                let mut written = 0;
                for (offset, length) in segments {
                    seek(&mut file, offset).map_err(|error| ApplyError::refused(&entry.name, "write a file", error))?;
                    written += self.copy(entry, &mut data.take(length), &mut file, length)?;
                }
                file.set_len(size).map_err(|error| ApplyError::refused(&entry.name, "write a file", error))?;
                written
            }
            None => self.copy(entry, data, &mut file, entry.stored)?,
        };
        self.residue.count(written);
        Ok(())
    }

    /// Copies exactly `length` bytes.
    fn copy(&mut self, entry: &Entry, from: &mut impl Read, to: &mut File, length: u64) -> Result<u64, ApplyError> {
        let mut left = length;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(COPY_BYTES).min(COPY_BYTES);
            let Some(part) = self.buffer.get_mut(..want) else { break };
            let read = from.read(part).map_err(|error| archive::damaged(&error))?;
            let Some(bytes) = part.get(..read).filter(|bytes| !bytes.is_empty()) else {
                return Err(ApplyError::Damaged(format!(
                    "the archive ends in the middle of {:?}",
                    crate::error::shown(&entry.name)
                )));
            };
            check(Point::UnpackWrite)
                .and_then(|()| to.write_all(bytes))
                .map_err(|error| ApplyError::refused(&entry.name, "write a file", error))?;
            left -= read as u64;
        }
        Ok(length)
    }
}

/// What was at a name before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cleared {
    Nothing,
    Whiteout,
    /// Still there.
    Directory,
}

fn seek(file: &mut File, offset: u64) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(offset)).map(|_| ())
}

fn put(entry: &Entry, facts: &Facts, dir: &Dir, name: &[u8], kind: FileType) -> Result<(), ApplyError> {
    facts.put(dir, name, kind).map_err(|refused| match refused.xattr {
        None => ApplyError::refused(&entry.name, refused.doing, refused.errno),
        Some(xattr) => {
            let error = std::io::Error::from(refused.errno);
            let text = format!("attribute {:?}: {error}", crate::error::shown(&xattr));
            ApplyError::refused(&entry.name, refused.doing, std::io::Error::new(error.kind(), text))
        }
    })
}
