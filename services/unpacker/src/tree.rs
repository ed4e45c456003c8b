//! A directory tree that can be walked without ever leaving it, whatever symbolic links lie in it.
//!
//! A place is resolved one component at a time, each opened relative to the descriptor of the one above and never through
//! a symbolic link; a link in the way is read and followed by us, with the tree's root as `/` and as the end of `..`. No
//! path is ever handed to the kernel that it could resolve to somewhere else.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use crate::{file::open_dir, name::Place};

/// As many links as the kernel follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Directories kept open, so that the entries of one directory, and its neighbours, need no walk.
const KEPT_OPEN: usize = 128;
/// So many directories up are looked for among those kept open, before a walk begins at the root.
const NEAR: usize = 4;

/// Why a place cannot be reached.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// A component is not there: the place of the first such one.
    Missing(Place),
    /// A component is neither a directory nor a link.
    NotADirectory(Place),
    /// More links than anybody means.
    TooManyLinks,
    /// The system refused.
    System(Errno),
}

impl From<Errno> for Unreachable {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

/// A directory, and where it really is.
#[derive(Clone, Debug)]
pub struct Dir {
    /// Its descriptor.
    pub fd: Arc<OwnedFd>,
    /// Its place, after all links.
    pub place: Arc<Place>,
}

impl Dir {
    /// What is at a name in it; links are not followed.
    pub fn stat(&self, name: &[u8]) -> Result<Option<Stat>, Errno> {
        match rustix::fs::statat(self.fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// A path by which the calls that take only paths (extended attributes) reach a name in it. It ends in that name, so
    /// calls that do not follow a last link cannot be led astray.
    #[must_use]
    pub fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = format!("/proc/self/fd/{}/", self.fd.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        path
    }
}

/// Whether it is an overlayfs whiteout: a character device 0/0 (kernel, `Documentation/filesystems/overlayfs.rst`).
#[must_use]
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// The kind of a file.
#[must_use]
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// A tree below a directory.
pub struct Tree {
    root: Dir,
    /// Those used lately, and those used before; each at most half of what is kept open.
    open: HashMap<Place, Dir>,
    open_before: HashMap<Place, Dir>,
}

impl Tree {
    /// The tree below an existing directory.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let fd = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let root = Dir { fd: Arc::new(fd), place: Arc::default() };
        Ok(Self { root, open: HashMap::new(), open_before: HashMap::new() })
    }

    /// Its root.
    #[must_use]
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// Forgets which directories are where; after one was removed or moved.
    pub fn forget(&mut self) {
        self.open.clear();
        self.open_before.clear();
    }

    /// Remembers a directory that was just made, and so is where its place says.
    pub fn keep(&mut self, dir: &Dir) {
        self.insert((*dir.place).clone(), dir.clone());
    }

    fn insert(&mut self, place: Place, dir: Dir) {
        if self.open.len() >= KEPT_OPEN / 2 {
            self.open_before = std::mem::take(&mut self.open);
        }
        self.open.insert(place, dir);
    }

    fn known(&mut self, place: &Place) -> Option<Dir> {
        if let Some(dir) = self.open.get(place) {
            return Some(dir.clone());
        }
        let (place, dir) = self.open_before.remove_entry(place)?;
        self.insert(place, dir.clone());
        Some(dir)
    }

    /// The directory at a place, through links that stay inside. The place asked for need not be the place found.
    pub fn dir(&mut self, place: &Place) -> Result<Dir, Unreachable> {
        if place.is_root() {
            return Ok(self.root.clone());
        }
        if let Some(dir) = self.known(place) {
            return Ok(dir);
        }
        let dir = match self.near(place)? {
            Some(dir) => dir,
            None => self.walk(place)?,
        };
        self.insert(place.clone(), dir.clone());
        Ok(dir)
    }

    /// Goes on from a directory above that is kept open; `None` if there is none, or a link is in the way.
    fn near(&mut self, place: &Place) -> Result<Option<Dir>, Unreachable> {
        let mut above = place.clone();
        for up in 1..=NEAR {
            if !above.climb() {
                break;
            }
            let here = if above.is_root() { Some(self.root.clone()) } else { self.known(&above) };
            let Some(mut here) = here else { continue };
            for part in place.parts().skip(place.depth() - up) {
                here = match open_dir(here.fd.as_fd(), part) {
                    Ok(fd) => Dir { fd: Arc::new(fd), place: Arc::new(here.place.join(part)) },
                    Err(Errno::NOENT) => return Err(Unreachable::Missing(here.place.join(part))),
                    Err(Errno::LOOP | Errno::NOTDIR) => return Ok(None),
                    Err(errno) => return Err(errno.into()),
                };
            }
            return Ok(Some(here));
        }
        Ok(None)
    }

    fn walk(&self, place: &Place) -> Result<Dir, Unreachable> {
        let mut todo: VecDeque<Vec<u8>> = place.parts().map(<[u8]>::to_vec).collect();
        let mut above: Vec<Dir> = Vec::new();
        let mut here = self.root.clone();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                here = above.pop().unwrap_or_else(|| self.root.clone());
                continue;
            }
            match open_dir(here.fd.as_fd(), &part) {
                Ok(fd) => {
                    let next = Dir { fd: Arc::new(fd), place: Arc::new(here.place.join(&part)) };
                    above.push(std::mem::replace(&mut here, next));
                }
                Err(Errno::NOENT) => return Err(Unreachable::Missing(here.place.join(&part))),
                // A link answers ELOOP or ENOTDIR, as the kernel pleases.
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let stat = here.stat(&part)?;
                    if stat.is_none_or(|stat| kind(&stat) != FileType::Symlink) {
                        return Err(Unreachable::NotADirectory(here.place.join(&part)));
                    }
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Unreachable::TooManyLinks);
                    }
                    let target = rustix::fs::readlinkat(here.fd.as_fd(), part.as_slice(), Vec::new())?.into_bytes();
                    if target.starts_with(b"/") {
                        above.clear();
                        here = self.root.clone();
                    }
                    for part in target.split(|byte| *byte == b'/').rev() {
                        if !matches!(part, b"" | b".") {
                            todo.push_front(part.to_vec());
                        }
                    }
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(here)
    }
}

/// Makes a new directory one that nobody said anything of: root's, 0755; also where the one above hands its group down.
pub fn make_plain(dir: &Dir, name: &[u8]) -> Result<(), Errno> {
    let (user, group) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    rustix::fs::chownat(dir.fd.as_fd(), name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::chmodat(dir.fd.as_fd(), name, Mode::from_raw_mode(0o755), AtFlags::empty())
}

/// Removes a name and all below it; directories without permissions too. One that is not there is fine, also when somebody
/// else removes it at the same time.
pub fn remove(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let gone = |errno| if errno == Errno::NOENT { Ok(()) } else { Err(errno) };
    let opened = match open_dir(dir, name) {
        Ok(opened) => opened,
        Err(errno) => return gone(errno),
    };
    match names(opened.as_fd()) {
        Ok(names) => names.iter().try_for_each(|below| remove(opened.as_fd(), below))?,
        Err(errno) => gone(errno)?,
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).or_else(gone)
}

/// The names in a directory, in no order.
pub fn names(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}
