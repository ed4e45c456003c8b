//! What a layer hides of those below, when its tree is shown as it is: whiteouts would be seen then, as devices. They are
//! taken off and remembered, and put back when the layer gets layers below.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use berth_model::Status;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use crate::{
    facts,
    name::Place,
    tree::{self, Dir, Tree},
};

/// What a layer hides.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Hidden {
    /// Names that lower layers may have.
    pub whiteouts: Vec<Place>,
    /// Directories in which all that lower layers have is hidden.
    pub opaque: Vec<Place>,
}

impl Hidden {
    /// Takes it off a tree in overlayfs form.
    pub fn take(path: &Path) -> Result<Self, Status> {
        let failed = |errno: Errno| Status::io("take whiteouts off", path, &errno.into());
        let mut hidden = Self::default();
        let tree = Tree::open(path).map_err(failed)?;
        hidden.take_below(tree.root()).map_err(failed)?;
        Ok(hidden)
    }

    fn take_below(&mut self, dir: &Dir) -> Result<(), Errno> {
        if facts::is_opaque(dir, b".") {
            facts::clear_opaque(dir, b".")?;
            self.opaque.push(Place::clone(&dir.place));
        }
        let stat = rustix::fs::fstat(dir.fd.as_fd())?;
        let mut taken = false;
        for name in tree::names(dir.fd.as_fd())? {
            let Some(stat) = dir.stat(&name)? else { continue };
            if tree::is_whiteout(&stat) {
                rustix::fs::unlinkat(dir.fd.as_fd(), name.as_slice(), AtFlags::empty())?;
                self.whiteouts.push(dir.place.join(&name));
                taken = true;
            } else if tree::kind(&stat) == FileType::Directory {
                self.take_below(&open(dir.fd.as_fd(), &name, dir.place.join(&name))?)?;
            }
        }
        if taken {
            facts::set_mtime(dir, b".", (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)))?;
        }
        Ok(())
    }

    /// Whether there is nothing to put back.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.whiteouts.is_empty() && self.opaque.is_empty()
    }

    /// Puts it back. A name that is there by now hides what is below anyway.
    pub fn restore(&self, path: &Path) -> Result<(), Status> {
        if self.is_nothing() {
            return Ok(());
        }
        let failed = |errno: Errno| Status::io("put whiteouts into", path, &errno.into());
        let mut tree = Tree::open(path).map_err(failed)?;
        for place in &self.opaque {
            let Ok(dir) = tree.dir(place) else { continue };
            facts::set_opaque(&dir, b".").map_err(failed)?;
        }
        for place in &self.whiteouts {
            let Some((above, name)) = place.split() else { continue };
            let Ok(dir) = tree.dir(&above) else { continue };
            let stat = rustix::fs::fstat(dir.fd.as_fd()).map_err(failed)?;
            match rustix::fs::mknodat(dir.fd.as_fd(), name, FileType::CharacterDevice, Mode::empty(), 0) {
                Err(Errno::EXIST) => continue,
                done => done.map_err(failed)?,
            }
            let mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
            facts::set_mtime(&dir, b".", mtime).map_err(failed)?;
        }
        Ok(())
    }
}

/// A directory in a directory, not through a link.
pub(crate) fn open(fd: BorrowedFd<'_>, name: &[u8], place: Place) -> Result<Dir, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened: OwnedFd = rustix::fs::openat(fd, name, flags, Mode::empty())?;
    Ok(Dir { fd: Arc::new(opened), place: Arc::new(place) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root; does nothing without.
    #[test]
    fn taken_off_and_put_back() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let sub = scratch.path().join("a/b");
        std::fs::create_dir_all(&sub).unwrap();
        std::fs::write(sub.join("file"), "x").unwrap();
        let before = Hidden {
            whiteouts: vec![Place::parse(b"a/b/gone").unwrap(), Place::parse(b"a/file").unwrap()],
            opaque: vec![Place::parse(b"a/b").unwrap()],
        };
        before.restore(scratch.path()).unwrap();
        assert!(sub.join("gone").exists());
        let mut taken = Hidden::take(scratch.path()).unwrap();
        taken.whiteouts.sort();
        assert_eq!(taken, before);
        assert!(!sub.join("gone").exists() && sub.join("file").exists());
        assert_eq!(Hidden::take(scratch.path()).unwrap(), Hidden::default());
        std::fs::write(scratch.path().join("a/file"), "new").unwrap();
        taken.restore(scratch.path()).unwrap();
        assert_eq!(std::fs::read_to_string(scratch.path().join("a/file")).unwrap(), "new");
    }
}
