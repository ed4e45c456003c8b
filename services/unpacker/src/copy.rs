//! Copies a tree with all that makes a file what it is: owners, modes, times, attributes, devices, holes, and which names
//! are one file. Nothing is shared with the original.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

use berth_model::{Code, Status};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat},
    io::Errno,
};

use crate::{
    facts::{self, Facts},
    hidden,
    name::Place,
    tree::{self, Dir, Tree},
};

/// What could not be done, and where.
#[derive(Debug)]
pub struct Refused {
    doing: &'static str,
    place: Place,
    errno: Errno,
}

impl Refused {
    pub(crate) fn new(doing: &'static str, place: &Place) -> impl Fn(Errno) -> Self {
        let place = place.clone();
        move |errno| Self { doing, place: place.clone(), errno }
    }

    /// As a status: what was being done with the two trees, and with what in them.
    #[must_use]
    pub fn status(&self, what: &str, from: &Path, to: &Path) -> Status {
        let error = io::Error::from(self.errno);
        let (code, remedy) = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (Code::ResourceExhausted, "; free some space there")
            }
            io::ErrorKind::PermissionDenied => (Code::PermissionDenied, "; run as root"),
            _ => (Code::Internal, ""),
        };
        let (from, to, place) = (from.display(), to.display(), self.place.shown());
        Status::new(code, format!("{what} {from} to {to}: {place:?}: {}: {error}{remedy}", self.doing))
    }
}

/// Copies everything below `from` into the empty directory `to`, which becomes like `from`.
pub fn tree(from: &Path, to: &Path) -> Result<(), Refused> {
    let root = Place::default();
    let source = Tree::open(from).map_err(Refused::new("open it", &root))?;
    let copy = Tree::open(to).map_err(Refused::new("open the copy", &root))?;
    Copier { root: copy.root().clone(), names: HashMap::new() }.dir(source.root(), copy.root())
}

/// Copies entries from one tree to another, and knows which it copied under several names.
pub(crate) struct Copier {
    pub(crate) root: Dir,
    /// The first name of what has several.
    pub(crate) names: HashMap<(u64, u64), Place>,
}

impl Copier {
    fn dir(&mut self, from: &Dir, to: &Dir) -> Result<(), Refused> {
        let refused = |doing| Refused::new(doing, &from.place);
        let mut names = tree::names(from.fd.as_fd()).map_err(refused("list it"))?;
        names.sort();
        for name in names {
            self.entry(from, to, &name)?;
        }
        let stat = rustix::fs::fstat(from.fd.as_fd()).map_err(refused("look at it"))?;
        put_dir(from, to, &stat)
    }

    /// Copies a name that is not there yet, with all below it.
    pub(crate) fn entry(&mut self, from: &Dir, to: &Dir, name: &[u8]) -> Result<(), Refused> {
        let place = from.place.join(name);
        let refused = |doing| Refused::new(doing, &place);
        let Some(stat) = from.stat(name).map_err(refused("look at it"))? else { return Ok(()) };
        if tree::kind(&stat) == FileType::Directory {
            let below = hidden::open(from.fd.as_fd(), name, place.clone()).map_err(refused("open it"))?;
            rustix::fs::mkdirat(to.fd.as_fd(), name, Mode::RWXU).map_err(refused("make it"))?;
            let copy = hidden::open(to.fd.as_fd(), name, to.place.join(name)).map_err(refused("open its copy"))?;
            return self.dir(&below, &copy);
        }
        self.file(from, to, name, &stat)
    }

    /// Copies what is no directory.
    pub(crate) fn file(&mut self, from: &Dir, to: &Dir, name: &[u8], stat: &Stat) -> Result<(), Refused> {
        let place = from.place.join(name);
        let refused = |doing| Refused::new(doing, &place);
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.names.get(&inode) {
                return self.link(first, to, name).map_err(refused("link it"));
            }
            self.names.insert(inode, to.place.join(name));
        }
        let kind = tree::kind(stat);
        let (source, target) = (from.fd.as_fd(), to.fd.as_fd());
        match kind {
            FileType::RegularFile => bytes(source, target, name).map_err(refused("copy its bytes"))?,
            FileType::Symlink => {
                let target_of =
                    rustix::fs::readlinkat(source, name, Vec::new()).map_err(refused("read where it leads"))?;
                rustix::fs::symlinkat(target_of.as_c_str(), target, name).map_err(refused("make it"))?;
            }
            kind => {
                rustix::fs::mknodat(target, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)
                    .map_err(refused("make it"))?;
            }
        }
        let known = Facts::read(from, name, stat).map_err(refused("read its attributes"))?;
        known.put(to, name, kind).map_err(|error| refused(error.doing)(error.errno))
    }

    fn link(&self, first: &Place, to: &Dir, name: &[u8]) -> Result<(), Errno> {
        let Some((above, base)) = first.split() else { return Err(Errno::NOENT) };
        let mut dir = self.root.clone();
        for part in above.parts() {
            dir = hidden::open(dir.fd.as_fd(), part, dir.place.join(part))?;
        }
        rustix::fs::linkat(dir.fd.as_fd(), base, to.fd.as_fd(), name, AtFlags::empty())
    }
}

/// Makes a directory like another, its time too: last, for what is made in it changes that.
pub(crate) fn put_dir(from: &Dir, to: &Dir, stat: &Stat) -> Result<(), Refused> {
    let refused = |doing| Refused::new(doing, &from.place);
    let known = Facts::read(from, b".", stat).map_err(refused("read its attributes"))?;
    let has = facts::xattrs(&to.path_of(b".")).map_err(refused("read attributes there"))?;
    for (xattr, _) in has.iter().filter(|(xattr, _)| known.xattrs.iter().all(|(wanted, _)| wanted != xattr)) {
        match rustix::fs::lremovexattr(to.path_of(b".").as_slice(), xattr.as_slice()) {
            // Those of the system's own policies cannot be taken off.
            Ok(()) | Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(refused("remove an attribute there")(errno)),
        }
    }
    known.put(to, b".", FileType::Directory).map_err(|error| refused(error.doing)(error.errno))?;
    facts::set_mtime(to, b".", known.mtime).map_err(refused("set its time"))
}

/// Copies a file's bytes to a new file, its holes as holes. The kernel may share blocks where the file system can.
fn bytes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let write = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = File::from(rustix::fs::openat(from, name, read, Mode::empty())?);
    let copy = File::from(rustix::fs::openat(to, name, write, Mode::RUSR | Mode::WUSR)?);
    let size = u64::try_from(rustix::fs::fstat(&source)?.st_size).unwrap_or(0);
    let mut at = 0;
    while at < size {
        at = match rustix::fs::seek(&source, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        let end = rustix::fs::seek(&source, SeekFrom::Hole(at))?;
        rustix::fs::seek(&source, SeekFrom::Start(at))?;
        rustix::fs::seek(&copy, SeekFrom::Start(at))?;
        let copied = io::copy(&mut io::Read::take(&source, end - at), &mut &copy)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        if copied == 0 {
            break;
        }
        at += copied;
    }
    rustix::fs::ftruncate(&copy, size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_testing::tree::{differences, read_tree};
    use std::{
        fs,
        os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    };

    #[test]
    fn a_copy_is_alike_and_apart() {
        let scratch = tempfile::tempdir().unwrap();
        let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
        fs::create_dir_all(from.join("d/e")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("d/file"), "bytes").unwrap();
        fs::hard_link(from.join("d/file"), from.join("d/e/same")).unwrap();
        fs::hard_link(from.join("d/file"), from.join("also")).unwrap();
        symlink("nowhere", from.join("link")).unwrap();
        let sparse = File::create(from.join("sparse")).unwrap();
        sparse.write_all_at(b"end", 10 << 20).unwrap();
        sparse.set_len(20 << 20).unwrap();
        let root = rustix::process::geteuid().is_root();
        let mut shell = "mkfifo -m 640 fifo; chmod 2751 d; touch -d 2001-02-03T04:05:06.789 d link d/file".to_owned();
        if root {
            shell += "; mknod null c 1 3; chown 7:8 d/e null; chown -h 9:9 link; chmod 4711 d/file";
        }
        let done = std::process::Command::new("sh").args(["-ec", &shell]).current_dir(&from).status().unwrap();
        assert!(done.success());
        if root {
            rustix::fs::lsetxattr(from.join("d/e"), "trusted.mine", b"\0v", rustix::fs::XattrFlags::empty()).unwrap();
        }
        fs::set_permissions(&from, fs::Permissions::from_mode(0o1777)).unwrap();
        tree(&from, &to).unwrap();
        let found = differences(&read_tree(&from).unwrap(), &read_tree(&to).unwrap());
        assert!(found.is_empty(), "{found:#?}");
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_ne!(inode(&from.join("also")), inode(&to.join("also")));
        assert!(fs::metadata(to.join("sparse")).unwrap().blocks() < 100, "holes stay holes");
    }
}
