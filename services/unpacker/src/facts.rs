//! What a file is beside its bytes: owner, mode, times, extended attributes; and how that is put on a file.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use crate::{
    error::ApplyError,
    name::Place,
    tree::{Dir, Tree},
};

/// overlayfs reads these itself; a layer that could set them would steer it (redirect, opaque, metacopy).
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
/// The attribute that makes a directory hide what is below it in lower layers.
const OPAQUE: &str = "trusted.overlay.opaque";
/// The same where only `user.` attributes may be used.
const USER_OPAQUE: &str = "user.overlay.opaque";

/// A file's facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Facts {
    /// Permissions, with setuid, setgid and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Extended attributes, without those of overlayfs.
    pub xattrs: Xattrs,
}

/// Whether a layer may set this attribute.
#[must_use]
pub fn is_allowed(xattr: &[u8]) -> bool {
    !OVERLAY.iter().any(|prefix| xattr.starts_with(prefix))
}

/// What could not be put on a file.
#[derive(Debug)]
pub struct Refused {
    /// What was being done.
    pub doing: &'static str,
    /// What the system said.
    pub errno: Errno,
    /// Which attribute, if it was one.
    pub xattr: Option<Vec<u8>>,
}

fn doing(doing: &'static str) -> impl Fn(Errno) -> Refused {
    move |errno| Refused { doing, errno, xattr: None }
}

/// What became of setting an attribute.
fn kept(xattr: &[u8], set: Result<(), Errno>) -> Result<(), Refused> {
    match set {
        Ok(()) => Ok(()),
        // As containerd does: a file system that has no such attributes still holds the files.
        Err(Errno::OPNOTSUPP) => {
            tracing::warn!(xattr = %crate::error::shown(xattr), "the file system cannot keep an extended attribute");
            Ok(())
        }
        Err(errno) => Err(Refused { doing: "set an extended attribute", errno, xattr: Some(xattr.to_vec()) }),
    }
}

fn timestamps(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: mtime.0, tv_nsec: i64::from(mtime.1) };
    Timestamps { last_access: time, last_modification: time }
}

impl Facts {
    /// Puts owner, attributes and mode on a name; the time too, unless it is a directory, whose time changes with what is
    /// made in it. In this order: a change of owner takes setuid bits and capabilities away.
    pub fn put(&self, dir: &Dir, name: &[u8], kind: FileType) -> Result<(), Refused> {
        self.put_owner(dir, name)?;
        self.put_xattrs(dir, name)?;
        if kind != FileType::Symlink {
            let mode = Mode::from_raw_mode(self.mode & 0o7777);
            rustix::fs::chmodat(dir.fd.as_fd(), name, mode, AtFlags::empty()).map_err(doing("set its mode"))?;
        }
        if kind != FileType::Directory {
            set_mtime(dir, name, self.mtime).map_err(doing("set its time"))?;
        }
        Ok(())
    }

    /// As [`Facts::put`], on what is open; asks once what is right already.
    pub fn put_on(&self, fd: BorrowedFd<'_>, kind: FileType) -> Result<(), Refused> {
        let stat = rustix::fs::fstat(fd).map_err(doing("look at it"))?;
        if (stat.st_uid, stat.st_gid) != (self.uid, self.gid) {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(doing("set its owner"))?;
        }
        for (xattr, value) in &self.xattrs {
            kept(xattr, rustix::fs::fsetxattr(fd, xattr.as_slice(), value, XattrFlags::empty()))?;
        }
        // An attribute may be an access list, which changes the mode.
        if stat.st_mode & 0o7777 != self.mode & 0o7777 || !self.xattrs.is_empty() {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode & 0o7777)).map_err(doing("set its mode"))?;
        }
        if kind != FileType::Directory {
            rustix::fs::futimens(fd, &timestamps(self.mtime)).map_err(doing("set its time"))?;
        }
        Ok(())
    }

    fn put_owner(&self, dir: &Dir, name: &[u8]) -> Result<(), Refused> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        // What a process makes is its own already, unless the directory passes its group on.
        if uid == rustix::process::geteuid()
            && let Ok(stat) = rustix::fs::statat(dir.fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)
            && (stat.st_uid, stat.st_gid) == (self.uid, self.gid)
        {
            return Ok(());
        }
        rustix::fs::chownat(dir.fd.as_fd(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(doing("set its owner"))
    }

    fn put_xattrs(&self, dir: &Dir, name: &[u8]) -> Result<(), Refused> {
        if self.xattrs.is_empty() {
            return Ok(());
        }
        let path = dir.path_of(name);
        for (xattr, value) in &self.xattrs {
            kept(xattr, rustix::fs::lsetxattr(path.as_slice(), xattr.as_slice(), value, XattrFlags::empty()))?;
        }
        Ok(())
    }

    /// The facts of a name.
    pub fn read(dir: &Dir, name: &[u8], stat: &Stat) -> Result<Self, Errno> {
        Ok(Self {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            xattrs: xattrs(&dir.path_of(name))?,
        })
    }
}

/// Names and values of extended attributes.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// The extended attributes of a path, whose last component is not followed; without those of overlayfs.
pub fn xattrs(path: &[u8]) -> Result<Xattrs, Errno> {
    let mut list = vec![0_u8; 64 << 10];
    let length = match rustix::fs::llistxattr(path, list.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    list.truncate(length);
    let mut found = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty() && is_allowed(name)) {
        let mut value = vec![0_u8; 64 << 10];
        match rustix::fs::lgetxattr(path, name, value.as_mut_slice()) {
            Ok(length) => value.truncate(length),
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(errno),
        }
        found.push((name.to_vec(), value));
    }
    Ok(found)
}

/// Sets the time of a name; a link's own.
pub fn set_mtime(dir: &Dir, name: &[u8], mtime: (i64, u32)) -> Result<(), Errno> {
    rustix::fs::utimensat(dir.fd.as_fd(), name, &timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets directories' times. Setting one does not change another, so any order will do; neighbours follow one another best.
pub(crate) fn set_times(tree: &mut Tree, times: &[(Place, (i64, u32))]) -> Result<(), ApplyError> {
    for (place, mtime) in times {
        let dir = match place.split() {
            None => Ok((tree.root().clone(), b".".to_vec())),
            Some((parent, name)) => tree.dir(&parent).map(|dir| (dir, name.to_vec())),
        };
        // It may have been replaced or moved since.
        let Ok((dir, name)) = dir else { continue };
        match set_mtime(&dir, &name, *mtime) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(ApplyError::refused(place.shown().as_bytes(), "set its time", errno)),
        }
    }
    Ok(())
}

/// Makes a directory hide what lower layers have in it.
pub fn set_opaque(dir: &Dir, name: &[u8]) -> Result<(), Errno> {
    let path = dir.path_of(name);
    match rustix::fs::lsetxattr(path.as_slice(), OPAQUE, b"y", XattrFlags::empty()) {
        // Root of a user namespace alone: overlays are mounted with `userxattr` there.
        Err(Errno::PERM) => rustix::fs::lsetxattr(path.as_slice(), USER_OPAQUE, b"y", XattrFlags::empty()),
        done => done,
    }
}

/// Undoes [`set_opaque`].
pub fn clear_opaque(dir: &Dir, name: &[u8]) -> Result<(), Errno> {
    let path = dir.path_of(name);
    for xattr in [OPAQUE, USER_OPAQUE] {
        match rustix::fs::lremovexattr(path.as_slice(), xattr) {
            Err(Errno::NODATA | Errno::PERM | Errno::OPNOTSUPP) => {}
            done => done?,
        }
    }
    Ok(())
}

/// Whether a directory shows another one of the lower layers than that of its own name.
#[must_use]
pub fn is_redirected(dir: &Dir, name: &[u8]) -> bool {
    let path = dir.path_of(name);
    ["trusted.overlay.redirect", "user.overlay.redirect"].into_iter().any(|xattr| {
        let mut none: [u8; 0] = [];
        rustix::fs::lgetxattr(path.as_slice(), xattr, none.as_mut_slice()).is_ok()
    })
}

/// Whether a directory hides what lower layers have in it.
#[must_use]
pub fn is_opaque(dir: &Dir, name: &[u8]) -> bool {
    if name == b"." {
        return is_opaque_itself(dir.fd.as_fd());
    }
    let path = dir.path_of(name);
    [OPAQUE, USER_OPAQUE].into_iter().any(|xattr| {
        let mut value = [0_u8; 2];
        says_yes(rustix::fs::lgetxattr(path.as_slice(), xattr, value.as_mut_slice()), value)
    })
}

/// The same of what is open; most directories have no attributes, which takes one question.
fn is_opaque_itself(fd: BorrowedFd<'_>) -> bool {
    let mut list = [0_u8; 512];
    let known = match rustix::fs::flistxattr(fd, list.as_mut_slice()) {
        Ok(length) => list.get(..length),
        // So many that the list is longer, or it cannot be had.
        Err(_) => None,
    };
    let may_have =
        |xattr: &str| known.is_none_or(|known| known.split(|byte| *byte == 0).any(|has| has == xattr.as_bytes()));
    [OPAQUE, USER_OPAQUE].into_iter().filter(|xattr| may_have(xattr)).any(|xattr| {
        let mut value = [0_u8; 2];
        says_yes(rustix::fs::fgetxattr(fd, xattr, value.as_mut_slice()), value)
    })
}

fn says_yes(length: Result<usize, Errno>, value: [u8; 2]) -> bool {
    length == Ok(1) && value.first() == Some(&b'y')
}
