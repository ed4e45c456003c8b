//! Applies the entries of a layer's archive to a directory, in overlayfs form (kernel,
//! `Documentation/filesystems/overlayfs.rst`): a whiteout becomes a character device 0/0, an opaque directory gets an
//! attribute. The directory sees only this layer.
//!
//! Whiteouts speak of lower layers only: one for a name that this layer makes, before or after, does not take it away; if the
//! name is a directory here, it becomes opaque.
//!
//! Regular files are made by other threads, in any order ([`writers`](crate::writers)); everything else here, in the archive's
//! order. Where the two meet - a name that comes again, a hard link, a path that leads through a file - the files under way
//! are waited for first.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom},
    os::fd::AsFd as _,
    path::Path,
    sync::Arc,
};

use berth_failpoint::{Point, check};
use rustix::{
    fs::{AtFlags, Dev, FileType, Mode},
    io::Errno,
};
use tar::EntryType;

use crate::{
    archive::Archive,
    entry::Entry,
    error::ApplyError,
    facts,
    file::{self, NewFile, put, told},
    index::{Index, Kind},
    layer_files::LayerFiles,
    made::Made,
    name::{self, Place, Wish},
    pieces::Pieces,
    pour::{copy, pieces_of},
    residue::Residue,
    tree::{self, Dir, Tree, Unreachable},
    writers::Writers,
};

/// A directory that hides nothing.
const DIRECTORY: Kind = Kind::Directory { hides: false };

/// Files larger than this are written as they come.
const LARGE: u64 = 1 << 20;

/// Applies a whole archive to the directory `upper`. `cancelled` is asked before each entry.
pub fn apply(
    archive: &mut dyn Pieces,
    upper: &Path,
    writers: &Writers,
    cancelled: &dyn Fn() -> bool,
) -> Result<Residue, ApplyError> {
    apply_named(archive, upper, writers, cancelled).map(|(residue, _names)| residue)
}

/// The same; and the names that are there now, if they are few and known.
pub(crate) fn apply_named(
    archive: &mut dyn Pieces,
    upper: &Path,
    writers: &Writers,
    cancelled: &dyn Fn() -> bool,
) -> Result<(Residue, Option<Index>), ApplyError> {
    let opened = |errno| ApplyError::refused(b"/", "open the directory", errno);
    let tree = Tree::open(upper).map_err(opened)?;
    let empty = tree::names(tree.root().fd.as_fd()).map_err(opened)?.is_empty();
    let mut applier = Applier { tree, residue: Residue::default(), made: Made::new(empty), files: writers.layer() };
    let mut archive = Archive::new(archive);
    while let Some(entry) = archive.next()? {
        if cancelled() {
            return Err(ApplyError::Cancelled);
        }
        check(Point::UnpackEntry).map_err(|error| ApplyError::refused(&entry.name, "make it", error))?;
        applier.entry(&entry, &mut archive)?;
    }
    applier.settle()?;
    let mut residue = applier.residue;
    residue.links.retain(|(name, _)| !residue.implied.contains(name));
    residue.last_times();
    facts::set_times(&mut applier.tree, &residue.times)?;
    Ok((residue, applier.made.into_names()))
}

struct Applier<'a> {
    tree: Tree,
    residue: Residue,
    made: Made,
    files: LayerFiles<'a>,
}

impl Applier<'_> {
    /// Waits until all files are there.
    fn settle(&mut self) -> Result<(), ApplyError> {
        self.files.settle()?;
        self.made.settled();
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, data: &mut impl Pieces) -> Result<(), ApplyError> {
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
                // Perhaps a file, which this would go below.
                Err(Unreachable::Missing(missing)) if self.made.may_be_under_way(&missing) => {
                    self.settle()?;
                    continue;
                }
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
        self.made.lost_count();
        rustix::fs::unlinkat(dir.fd.as_fd(), name, AtFlags::empty()).map_err(refused)?;
        Ok(true)
    }

    fn set_opaque(&mut self, dir: &Dir, name: &[u8]) -> Result<(), Errno> {
        self.made.lost_count();
        facts::set_opaque(dir, name)
    }

    fn implied_dir(&mut self, entry: &Entry, place: &Place, opaque: bool) -> Result<(), ApplyError> {
        let Some((above, name)) = place.split() else { return Ok(()) };
        let dir = self.parent(entry, &above)?;
        let refused = |errno| ApplyError::refused(&entry.name, "make a directory above it", errno);
        rustix::fs::mkdirat(dir.fd.as_fd(), name, Mode::from_raw_mode(0o755)).map_err(refused)?;
        tree::make_plain(&dir, name).map_err(refused)?;
        self.residue.count(4096);
        let at = dir.place.join(name);
        self.made.note(&at, DIRECTORY);
        if opaque {
            self.set_opaque(&dir, name).map_err(refused)?;
        } else {
            self.residue.implied.insert(at);
        }
        Ok(())
    }

    fn opaque(&mut self, entry: &Entry, place: &Place) -> Result<(), ApplyError> {
        let dir = self.parent(entry, place)?;
        self.set_opaque(&dir, b".")
            .map_err(|errno| ApplyError::refused(&entry.name, "mark its directory opaque", errno))
    }

    fn whiteout(&mut self, entry: &Entry, place: &Place) -> Result<(), ApplyError> {
        let Some((above, name)) = place.split() else { return Ok(()) };
        let dir = self.parent(entry, &above)?;
        let refused = |errno| ApplyError::refused(&entry.name, "make a whiteout", errno);
        let at = dir.place.join(name);
        match self.look(&dir, name, &at, "make a whiteout", entry)? {
            None => {
                self.made.note(&at, Kind::Whiteout);
                let mode = Mode::from_raw_mode(0);
                rustix::fs::mknodat(dir.fd.as_fd(), name, FileType::CharacterDevice, mode, 0).map_err(refused)?;
                self.residue.whiteouts.insert(dir.place.join(name));
                self.residue.count(0);
                Ok(())
            }
            Some(stat) if tree::kind(&stat) == FileType::Directory => {
                self.residue.implied.remove(&dir.place.join(name));
                self.set_opaque(&dir, name).map_err(refused)
            }
            // This layer's own; what is below is hidden by it anyway.
            Some(_) => Ok(()),
        }
    }

    /// What is at a name, whoever makes it.
    fn look(
        &mut self,
        dir: &Dir,
        name: &[u8],
        at: &Place,
        doing: &'static str,
        entry: &Entry,
    ) -> Result<Option<rustix::fs::Stat>, ApplyError> {
        if !self.made.may_hold(at) {
            return Ok(None);
        }
        if self.made.may_be_under_way(at) {
            self.settle()?;
        }
        dir.stat(name).map_err(|errno| ApplyError::refused(&entry.name, doing, errno))
    }

    fn make(&mut self, entry: &Entry, place: &Place, data: &mut impl Pieces) -> Result<(), ApplyError> {
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
                let opened = if keep == Cleared::Directory {
                    file::open_dir(fd, name)
                } else {
                    self.made.note(&at, DIRECTORY);
                    self.residue.count(4096);
                    file::create_dir(fd, name, entry.facts.mode)
                };
                let opened = Arc::new(opened.map_err(refused("make a directory"))?);
                if keep == Cleared::Whiteout {
                    self.set_opaque(&dir, name).map_err(refused("mark it opaque"))?;
                }
                let facts = entry.facts.put_on(opened.as_fd(), FileType::Directory);
                facts.map_err(|refused| told(&entry.name, refused))?;
                self.tree.keep(&Dir { fd: opened, place: Arc::new(at.clone()) });
                self.residue.times.push((at, entry.facts.mtime));
                return Ok(());
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
                if kind == FileType::CharacterDevice {
                    // Perhaps somebody's whiteout.
                    self.made.lost_count();
                }
                rustix::fs::mknodat(fd, name, kind, Mode::from_raw_mode(0o600), device).map_err(refused(doing))?;
                self.residue.count(0);
                kind
            }
            _ => {
                self.made.note(&at, Kind::Other);
                return self.file(entry, &dir, name, data);
            }
        };
        self.made.note(&at, Kind::Other);
        put(&entry.name, &entry.facts, &dir, name, kind)
    }

    /// The layer says what its root is like.
    fn make_root(&mut self, entry: &Entry) -> Result<(), ApplyError> {
        if entry.kind != EntryType::Directory {
            return Err(ApplyError::hostile(&entry.name, "the root of a layer can only be a directory"));
        }
        let root = self.tree.root().clone();
        self.residue.times.push((Place::default(), entry.facts.mtime));
        put(&entry.name, &entry.facts, &root, b".", FileType::Directory)
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
        let doing = "replace what is there";
        let Some(stat) = self.look(dir, name, at, doing, entry)? else { return Ok(Cleared::Nothing) };
        let refused = |errno| ApplyError::refused(&entry.name, doing, errno);
        let is_dir = tree::kind(&stat) == FileType::Directory;
        if is_dir && for_dir {
            return Ok(Cleared::Directory);
        }
        // Files may be under way to what is below it.
        self.settle()?;
        self.made.lost_count();
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
            && let Some(stat) = self.look(&from, base, &from.place.join(base), "make a hard link", entry)?
            && !tree::is_whiteout(&stat)
        {
            if tree::kind(&stat) == FileType::Directory {
                return Err(ApplyError::hostile(&entry.name, "a hard link to a directory"));
            }
            self.made.note(&at, Kind::Other);
            return rustix::fs::linkat(from.fd.as_fd(), base, dir.fd.as_fd(), name, AtFlags::empty()).map_err(refused);
        }
        self.residue.links.push((at, target));
        Ok(())
    }

    fn file(&mut self, entry: &Entry, dir: &Dir, name: &[u8], data: &mut impl Pieces) -> Result<(), ApplyError> {
        let sparse = entry.segments(data)?;
        if sparse.is_none() && entry.stored <= LARGE {
            self.residue.count(entry.stored);
            let mut pieces = Vec::new();
            pieces_of(entry, data, entry.stored, |piece| {
                pieces.push(piece);
                Ok(())
            })?;
            let (dir, name) = (Arc::clone(&dir.fd), name.to_vec());
            let file = NewFile { dir, name, entry: entry.name.clone(), facts: entry.facts.clone(), pieces };
            return self.files.add(file);
        }
        let refused = |error: std::io::Error| ApplyError::refused(&entry.name, "write a file", error);
        let fd = file::create(dir.fd.as_fd(), name, &entry.facts)
            .map_err(|errno| ApplyError::refused(&entry.name, "make a file", errno))?;
        let mut file = File::from(fd);
        let Some((segments, size)) = sparse else {
            self.residue.count(entry.stored);
            let lane = self.files.large(file, entry)?;
            pieces_of(entry, data, entry.stored, |piece| self.files.pour(&lane, piece))?;
            return self.files.end(lane);
        };
        let mut written = 0;
        for (offset, length) in segments {
            file.seek(SeekFrom::Start(offset)).map_err(refused)?;
            written += copy(entry, data, &file, length)?;
        }
        file.set_len(size).map_err(refused)?;
        self.residue.count(written);
        let facts = entry.facts.put_on(file.as_fd(), FileType::RegularFile);
        facts.map_err(|refused| told(&entry.name, refused))
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
