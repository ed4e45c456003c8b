//! Whether two trees are the same: names, kinds, facts, bytes, links, and which names are one file.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::File,
    io::Read as _,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::Path,
};

use berth_model::Status;
use rustix::{
    fs::{FileType, Mode, OFlags, Stat},
    io::Errno,
};

use crate::{
    error::shown,
    facts::{Facts, is_opaque},
    name::Place,
    tree::{self, Dir, Tree},
};

const BUFFER: usize = 1 << 20;

/// Directories whose times count: the others' are of the moment in which they were made.
pub type Timed = HashSet<Place>;

/// What differs, in words, at most so many; the flag: there is more.
pub fn compare(is: &Path, shall: &Path, timed: &Timed, most: usize) -> Result<(Vec<String>, bool), Status> {
    let open = |path: &Path| Tree::open(path).map_err(|errno| Status::io("open", path, &errno.into()));
    let (is_tree, shall_tree) = (open(is)?, open(shall)?);
    let mut comparison =
        Comparison { found: Vec::new(), more: false, most, timed, names: [HashMap::new(), HashMap::new()] };
    let done = comparison.entry(is_tree.root(), shall_tree.root(), b".", b"");
    done.map_err(|errno| Status::io("compare", is, &errno.into()))?;
    Ok((comparison.found, comparison.more))
}

struct Comparison<'a> {
    found: Vec<String>,
    more: bool,
    most: usize,
    timed: &'a Timed,
    /// By inode: the first name of a file with several.
    names: [HashMap<(u64, u64), Vec<u8>>; 2],
}

impl Comparison<'_> {
    fn differ(&mut self, path: &[u8], what: &str) {
        if self.found.len() < self.most {
            let path = if path.is_empty() { "/".to_owned() } else { format!("/{}", shown(path)) };
            self.found.push(format!("{path}: {what}"));
        } else {
            self.more = true;
        }
    }

    /// Compares what is at a name in two directories.
    fn entry(&mut self, is: &Dir, shall: &Dir, name: &[u8], path: &[u8]) -> Result<(), Errno> {
        let (Some(left), Some(right)) = (is.stat(name)?, shall.stat(name)?) else {
            self.differ(path, "went away while it was looked at");
            return Ok(());
        };
        let kind = tree::kind(&left);
        if kind != tree::kind(&right) {
            self.differ(path, "is of another kind");
            return Ok(());
        }
        let facts = [Facts::read(is, name, &left)?, Facts::read(shall, name, &right)?];
        let timed = match kind {
            FileType::Directory => self.timed.contains(&place(path)),
            _ => !tree::is_whiteout(&left),
        };
        for what in different(&facts, timed) {
            self.differ(path, what);
        }
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) && left.st_rdev != right.st_rdev {
            self.differ(path, "is another device");
        }
        if kind != FileType::Directory {
            self.same_file(path, &left, &right);
        }
        match kind {
            FileType::RegularFile => {
                if left.st_size != right.st_size {
                    self.differ(path, "has another size");
                } else if !same_bytes(is, shall, name)? {
                    self.differ(path, "has other bytes");
                }
            }
            FileType::Symlink => {
                let target = |dir: &Dir| rustix::fs::readlinkat(dir.fd.as_fd(), name, Vec::new());
                if target(is)? != target(shall)? {
                    self.differ(path, "points elsewhere");
                }
            }
            FileType::Directory => self.directory(is, shall, name, path)?,
            _ => {}
        }
        Ok(())
    }

    fn directory(&mut self, is: &Dir, shall: &Dir, name: &[u8], path: &[u8]) -> Result<(), Errno> {
        if is_opaque(is, name) != is_opaque(shall, name) {
            self.differ(path, "hides what is below it, or no longer does");
        }
        let (left, right) = (below(is, name)?, below(shall, name)?);
        let names = |dir: &Dir| Ok::<_, Errno>(tree::names(dir.fd.as_fd())?.into_iter().collect::<BTreeSet<_>>());
        let (there, wanted) = (names(&left)?, names(&right)?);
        let at = |name: &[u8]| if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
        for name in there.symmetric_difference(&wanted) {
            let what = if there.contains(name) { "should not be there" } else { "is missing" };
            self.differ(&at(name), what);
        }
        for name in there.intersection(&wanted) {
            self.entry(&left, &right, name, &at(name))?;
        }
        Ok(())
    }

    /// Names that are one file in the one tree must be in the other.
    fn same_file(&mut self, path: &[u8], left: &Stat, right: &Stat) {
        let mut first = |side: usize, stat: &Stat| {
            let names = self.names.get_mut(side)?;
            (stat.st_nlink > 1)
                .then(|| names.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_vec()).clone())
        };
        // Alone, or with other names of its own: what counts is which name of this tree came first.
        let own = |first: Option<Vec<u8>>| first.unwrap_or_else(|| path.to_vec());
        if own(first(0, left)) != own(first(1, right)) {
            self.differ(path, "is another file's name, or no longer is");
        }
    }
}

fn place(path: &[u8]) -> Place {
    Place::from(
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect::<Vec<_>>(),
    )
}

fn different(facts: &[Facts; 2], timed: bool) -> impl Iterator<Item = &'static str> {
    let [left, right] = facts;
    let sorted = |facts: &Facts| facts.xattrs.iter().cloned().collect::<BTreeSet<_>>();
    [
        (left.mode != right.mode, "has another mode"),
        ((left.uid, left.gid) != (right.uid, right.gid), "has another owner"),
        (timed && left.mtime != right.mtime, "has another time"),
        (sorted(left) != sorted(right), "has other extended attributes"),
    ]
    .into_iter()
    .filter_map(|(differs, what)| differs.then_some(what))
}

fn below(dir: &Dir, name: &[u8]) -> Result<Dir, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir.fd.as_fd(), name, flags, Mode::empty())?;
    Ok(Dir { fd: std::sync::Arc::new(fd), place: dir.place.clone() })
}

fn same_bytes(is: &Dir, shall: &Dir, name: &[u8]) -> Result<bool, Errno> {
    let open = |dir: &Dir| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(dir.fd.as_fd(), name, flags, Mode::empty()).map(File::from)
    };
    let (mut left, right) = (open(is)?, open(shall)?);
    let (mut ours, mut theirs, mut offset) = (vec![0; BUFFER], vec![0; BUFFER], 0_u64);
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    loop {
        let read = left.read(&mut ours).map_err(errno)?;
        let (Some(ours), Some(theirs)) = (ours.get(..read), theirs.get_mut(..read)) else { return Ok(false) };
        if read == 0 {
            return Ok(true);
        }
        match right.read_exact_at(theirs, offset) {
            Ok(()) if ours == &*theirs => offset += read as u64,
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(errno(error)),
            _ => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn make(dir: &Path) {
        fs::create_dir_all(dir.join("a/b")).unwrap();
        fs::write(dir.join("a/file"), b"bytes").unwrap();
        fs::write(dir.join("a/other"), b"bytes").unwrap();
        fs::hard_link(dir.join("a/file"), dir.join("a/b/link")).unwrap();
        symlink("file", dir.join("a/sym")).unwrap();
        for place in ["a/file", "a/other", "a/b", "a", ""] {
            let path = dir.join(place);
            let file = fs::File::open(&path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let times = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 },
            last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 },
        };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, dir.join("a/sym"), &times, flags).unwrap();
    }

    /// One change and what is said of it.
    type Case = (&'static str, fn(&Path), &'static [&'static str]);

    #[test]
    fn differences_as_a_table() {
        let cases: &[Case] = &[
            ("nothing", |_| {}, &[]),
            ("bytes", |dir| fs::write(dir.join("a/other"), b"bytEs").unwrap(), &["/a/other: has other bytes"]),
            ("size", |dir| fs::write(dir.join("a/other"), b"byte").unwrap(), &["/a/other: has another size"]),
            ("gone", |dir| fs::remove_file(dir.join("a/other")).unwrap(), &["/a/other: is missing"]),
            ("more", |dir| fs::write(dir.join("a/new"), b"").unwrap(), &["/a/new: should not be there"]),
            (
                "link",
                |dir| {
                    fs::remove_file(dir.join("a/sym")).unwrap();
                    symlink("other", dir.join("a/sym")).unwrap();
                },
                &["/a/sym: points elsewhere"],
            ),
            (
                "kind",
                |dir| {
                    fs::remove_file(dir.join("a/sym")).unwrap();
                    fs::create_dir(dir.join("a/sym")).unwrap();
                },
                &["/a/sym: is of another kind"],
            ),
            (
                "names",
                |dir| {
                    fs::remove_file(dir.join("a/b/link")).unwrap();
                    fs::write(dir.join("a/b/link"), b"bytes").unwrap();
                },
                &["/a/file: is another file's name, or no longer is"],
            ),
        ];
        for (what, change, wanted) in cases {
            let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            make(one.path());
            make(two.path());
            change(one.path());
            let (mut found, more) = compare(one.path(), two.path(), &Timed::new(), 10).unwrap();
            // What was written has another time too.
            found.retain(|found| !found.ends_with("another time"));
            assert_eq!(
                (found.as_slice(), more),
                (wanted.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().as_slice(), false),
                "{what}"
            );
        }
    }
}
