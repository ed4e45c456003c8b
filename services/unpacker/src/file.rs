//! One regular file of a layer, with all that it takes to make it: apart from the archive, so that any thread may.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use berth_failpoint::{Point, check};
use bytes::Bytes;
use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};

use crate::{
    error::ApplyError,
    facts::{Facts, Refused},
    tree::Dir,
};

/// A file to be made.
pub(crate) struct NewFile {
    /// The directory it goes into.
    pub(crate) dir: Arc<OwnedFd>,
    /// Its name there. Nothing has this name yet.
    pub(crate) name: Vec<u8>,
    /// Its name in the layer, for errors.
    pub(crate) entry: Vec<u8>,
    pub(crate) facts: Facts,
    /// What is in it.
    pub(crate) pieces: Vec<Bytes>,
}

impl NewFile {
    /// Makes it.
    pub(crate) fn make(&self) -> Result<(), ApplyError> {
        let fd = create(self.dir.as_fd(), &self.name, &self.facts)
            .map_err(|errno| ApplyError::refused(&self.entry, "make a file", errno))?;
        for piece in &self.pieces {
            write(fd.as_fd(), piece).map_err(|errno| ApplyError::refused(&self.entry, "write a file", errno))?;
        }
        self.facts.put_on(fd.as_fd(), FileType::RegularFile).map_err(|refused| told(&self.entry, refused))
    }
}

/// Makes an empty file and opens it for writing.
pub(crate) fn create(dir: BorrowedFd<'_>, name: &[u8], facts: &Facts) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Mostly its mode is right at once. Not the special bits: a change of owner would take them away.
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(facts.mode & 0o777))
}

/// Makes an empty directory and opens it.
pub(crate) fn create_dir(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode & 0o777))?;
    open_dir(dir, name)
}

/// Opens a directory; not through a link.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Writes all of it.
pub(crate) fn write(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    check(Point::UnpackWrite).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Puts facts on a name that is neither a regular file nor a directory.
pub(crate) fn put(entry: &[u8], facts: &Facts, dir: &Dir, name: &[u8], kind: FileType) -> Result<(), ApplyError> {
    facts.put(dir, name, kind).map_err(|refused| told(entry, refused))
}

/// What could not be put on a file, as an error of its entry.
pub(crate) fn told(entry: &[u8], refused: Refused) -> ApplyError {
    match refused.xattr {
        None => ApplyError::refused(entry, refused.doing, refused.errno),
        Some(xattr) => {
            let error = std::io::Error::from(refused.errno);
            let text = format!("attribute {:?}: {error}", crate::error::shown(&xattr));
            ApplyError::refused(entry, refused.doing, std::io::Error::new(error.kind(), text))
        }
    }
}
