//! Walks two trees and writes what differs, in the order of paths, component by component: a directory before what is in
//! it, a whiteout in the place of what is gone, and before the first change below a directory all directories above it.
//!
//! When one name of a file with several names is written, its unchanged names are written too, as links: else they would
//! be another file afterwards.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::File,
    io::{self, Read as _, Write},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use berth_model::{Code, Status};
use rustix::{
    fs::{FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::writer::{LayerWriter, What};
use crate::{
    facts::{self, Facts},
    hidden,
    name::Place,
    tree::{self, Dir, Tree},
};

/// Attributes that belong to a machine, not to an image.
const OF_THE_MACHINE: [&[u8]; 2] = [b"security.selinux", b"security.evm"];

/// Where changes can be, as far as that is known.
pub enum Guides {
    /// Anywhere.
    None,
    /// Only where these layers have something: the two trees are the same without them. Newest first.
    Layers(Vec<PathBuf>),
}

/// The walk, and what it has written so far.
pub struct Changes<W: Write> {
    lower: Tree,
    upper: Tree,
    writer: LayerWriter<W>,
    /// Directories that were written.
    written: HashSet<Place>,
    /// Files with several names: the name that was written with the bytes.
    sources: HashMap<(u64, u64), Place>,
    /// Unchanged names of files with several names, whose bytes were not written yet.
    unchanged: HashMap<(u64, u64), Vec<Place>>,
}

/// An error at a place.
struct At(Place, &'static str, io::Error);

impl At {
    fn new(place: &Place, doing: &'static str) -> impl Fn(Errno) -> At {
        let place = place.clone();
        move |errno| At(place.clone(), doing, errno.into())
    }
}

impl<W: Write> Changes<W> {
    /// Of the tree at `upper` over the one at `lower`.
    pub fn open(lower: &Path, upper: &Path, writer: LayerWriter<W>) -> Result<Self, Status> {
        let open = |path: &Path| Tree::open(path).map_err(|errno| Status::io("open", path, &errno.into()));
        Ok(Self {
            lower: open(lower)?,
            upper: open(upper)?,
            writer,
            written: HashSet::new(),
            sources: HashMap::new(),
            unchanged: HashMap::new(),
        })
    }

    /// Writes all that differs.
    pub fn walk(&mut self, guides: &Guides) -> Result<(), Status> {
        let guides = match guides {
            Guides::None => None,
            Guides::Layers(paths) => {
                let open = |path: &PathBuf| {
                    let tree = Tree::open(path).map_err(|errno| Status::io("open", path, &errno.into()))?;
                    Ok(tree.root().clone())
                };
                Some(paths.iter().map(open).collect::<Result<Vec<Dir>, Status>>()?)
            }
        };
        let (lower, upper) = (self.lower.root().clone(), self.upper.root().clone());
        let done = self.root(&lower, &upper).and_then(|()| self.dir(Some(&lower), &upper, guides.as_deref()));
        done.map_err(|At(place, doing, error)| {
            // What the reader of the layer said is the cause; the walk only noticed.
            if let Some(status) = error.get_ref().and_then(|inner| inner.downcast_ref::<Status>()) {
                return status.clone();
            }
            let code = match error.kind() {
                io::ErrorKind::PermissionDenied => Code::PermissionDenied,
                io::ErrorKind::NotFound => Code::Unavailable,
                _ => Code::Internal,
            };
            let remedy = if code == Code::Unavailable { "; it changed meanwhile, try again" } else { "" };
            Status::new(code, format!("diff: {:?}: {doing}: {error}{remedy}", place.shown()))
        })
    }

    /// Ends the archive.
    pub fn finish(self) -> Result<W, Status> {
        self.writer.finish().map_err(|error| Status::internal(format!("diff: end the archive: {error}")))
    }

    /// The root is written only when it became another: every tree has one.
    fn root(&mut self, lower: &Dir, upper: &Dir) -> Result<(), At> {
        let at = |doing| At::new(&upper.place, doing);
        let below = rustix::fs::fstat(lower.fd.as_fd()).map_err(at("look at it"))?;
        let above = rustix::fs::fstat(upper.fd.as_fd()).map_err(at("look at it"))?;
        let (old, new) = (known(lower, b".", &below)?, known(upper, b".", &above)?);
        let same = (old.mode, old.uid, old.gid, &old.xattrs) == (new.mode, new.uid, new.gid, &new.xattrs);
        let empty = tree::names(lower.fd.as_fd()).map_err(at("list it"))?.is_empty();
        if same || empty { Ok(()) } else { self.write(&upper.place, &new, What::Dir) }
    }

    fn dir(&mut self, lower: Option<&Dir>, upper: &Dir, guides: Option<&[Dir]>) -> Result<(), At> {
        let at = |doing| At::new(&upper.place, doing);
        // Below a directory that hides what is under it, or stands for another one, a layer alone does not say what is new.
        let guides = guides.filter(|guides| !guides.iter().any(|guide| facts::is_opaque(guide, b".")));
        let guides = guides.filter(|guides| !guides.iter().any(|guide| facts::is_redirected(guide, b".")));
        let mut names = BTreeSet::new();
        let mut list = |dir: &Dir| {
            names.extend(tree::names(dir.fd.as_fd()).map_err(at("list it"))?);
            Ok(())
        };
        match guides {
            Some(guides) => guides.iter().try_for_each(&mut list)?,
            None => [Some(upper), lower].into_iter().flatten().try_for_each(&mut list)?,
        }
        for name in names {
            self.name(lower, upper, guides, &name)?;
        }
        Ok(())
    }

    fn name(&mut self, lower: Option<&Dir>, upper: &Dir, guides: Option<&[Dir]>, name: &[u8]) -> Result<(), At> {
        let place = upper.place.join(name);
        let at = |doing| At::new(&place, doing);
        // In a layer that is looked at by itself there may be whiteouts: nothing, then.
        let look = |dir: &Dir| Ok(dir.stat(name).map_err(at("look at it"))?.filter(|stat| !tree::is_whiteout(stat)));
        let below = lower.map(look).transpose()?.flatten();
        let Some(above) = look(upper)? else {
            let gone = below.is_some();
            return if gone { self.write(&place, &Facts::default(), What::Whiteout) } else { Ok(()) };
        };
        let new = known(upper, name, &above)?;
        let is_dir = |stat: &Stat| tree::kind(stat) == FileType::Directory;
        let same = match (lower, &below) {
            (Some(lower), Some(below)) if tree::kind(below) == tree::kind(&above) => {
                let old = known(lower, name, below)?;
                is_same((lower, below, &old), (upper, &above, &new), name).map_err(at("compare it"))?
            }
            _ => false,
        };
        if !is_dir(&above) {
            return self.file(upper, name, &place, &above, &new, same);
        }
        if !same {
            self.write(&place, &new, What::Dir)?;
        }
        let open = |dir: &Dir| hidden::open(dir.fd.as_fd(), name, place.clone()).map_err(at("open it"));
        let inner = open(upper)?;
        match (lower, below.filter(is_dir)) {
            (Some(lower), Some(_)) => {
                let beneath = open(lower)?;
                let guides = guides.map(|guides| below_guides(guides, name)).transpose().map_err(at("open it"))?;
                self.dir(Some(&beneath), &inner, guides.as_deref())
            }
            _ => self.dir(None, &inner, None),
        }
    }

    fn file(&mut self, dir: &Dir, name: &[u8], place: &Place, stat: &Stat, new: &Facts, same: bool) -> Result<(), At> {
        let inode = (stat.st_dev, stat.st_ino);
        let several = stat.st_nlink > 1;
        if let (true, Some(source)) = (several, self.sources.get(&inode).cloned()) {
            return self.write(place, new, What::Link(&source));
        }
        if same {
            if several {
                self.unchanged.entry(inode).or_default().push(place.clone());
            }
            return Ok(());
        }
        let at = |doing| At::new(place, doing);
        match tree::kind(stat) {
            // A socket is nothing without the process behind it.
            FileType::Socket => return Ok(()),
            FileType::RegularFile => {
                let mut file = open_file(dir, name).map_err(at("open it"))?;
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                self.write(place, new, What::File(size, &mut file))?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir.fd.as_fd(), name, Vec::new());
                let target = target.map_err(at("read where it leads"))?;
                self.write(place, new, What::Symlink(target.as_bytes()))?;
            }
            _ => self.write(place, new, What::Node(stat))?,
        }
        if several {
            self.sources.insert(inode, place.clone());
            for other in self.unchanged.remove(&inode).unwrap_or_default() {
                self.write(&other, new, What::Link(place))?;
            }
        }
        Ok(())
    }

    /// Writes an entry, after the directories above it.
    fn write(&mut self, place: &Place, facts: &Facts, what: What<'_>) -> Result<(), At> {
        for above in place.above().skip(1) {
            if !self.written.contains(&above) {
                let at = |doing| At::new(&above, doing);
                let dir = self.upper.dir(&above).map_err(|_unreachable| at("open it")(Errno::NOENT))?;
                let stat = rustix::fs::fstat(dir.fd.as_fd()).map_err(at("look at it"))?;
                let facts = known(&dir, b".", &stat)?;
                self.entry(&above, &facts, What::Dir)?;
            }
        }
        self.entry(place, facts, what)
    }

    fn entry(&mut self, place: &Place, facts: &Facts, what: What<'_>) -> Result<(), At> {
        if let What::Dir = what {
            self.written.insert(place.clone());
        }
        self.writer.entry(place, facts, what).map_err(|error| At(place.clone(), "write it", error))
    }
}

fn known(dir: &Dir, name: &[u8], stat: &Stat) -> Result<Facts, At> {
    let read = Facts::read(dir, name, stat);
    let mut facts = read.map_err(At::new(&dir.place.join(name), "read its attributes"))?;
    facts.xattrs.retain(|(name, _)| !OF_THE_MACHINE.contains(&name.as_slice()));
    facts.xattrs.sort();
    Ok(facts)
}

fn below_guides(guides: &[Dir], name: &[u8]) -> Result<Vec<Dir>, Errno> {
    let mut below = Vec::new();
    for guide in guides {
        match hidden::open(guide.fd.as_fd(), name, guide.place.join(name)) {
            Ok(dir) => below.push(dir),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(below)
}

fn open_file(dir: &Dir, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(dir.fd.as_fd(), name, flags, Mode::empty())?))
}

/// Whether what is at a name in two trees, of one kind, is the same.
fn is_same(old: (&Dir, &Stat, &Facts), new: (&Dir, &Stat, &Facts), name: &[u8]) -> Result<bool, Errno> {
    let ((lower, below, known), (upper, above, facts)) = (old, new);
    let held = |facts: &Facts| (facts.mode, facts.uid, facts.gid, facts.xattrs.clone());
    if held(known) != held(facts) {
        return Ok(false);
    }
    let kind = tree::kind(above);
    if kind == FileType::Directory {
        // Its fraction of a second does not go into a layer.
        return Ok(known.mtime.0 == facts.mtime.0);
    }
    if (below.st_dev, below.st_ino) == (above.st_dev, above.st_ino) {
        return Ok(true);
    }
    if known.mtime != facts.mtime || below.st_size != above.st_size {
        return Ok(false);
    }
    match kind {
        // Two times without a fraction say little: layers have only such.
        FileType::RegularFile if facts.mtime.1 == 0 => same_bytes(open_file(lower, name)?, open_file(upper, name)?),
        FileType::Symlink => {
            let target = |dir: &Dir| rustix::fs::readlinkat(dir.fd.as_fd(), name, Vec::new());
            Ok(target(lower)? == target(upper)?)
        }
        FileType::CharacterDevice | FileType::BlockDevice => Ok(below.st_rdev == above.st_rdev),
        _ => Ok(true),
    }
}

fn same_bytes(mut a: File, mut b: File) -> Result<bool, Errno> {
    let failed = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = a.read(&mut left).map_err(failed)?;
        let Some((mine, theirs)) = left.get(..read).zip(right.get_mut(..read)) else { return Ok(false) };
        if read == 0 {
            return Ok(b.read(&mut right).map_err(failed)? == 0);
        }
        match b.read_exact(theirs) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            done => done.map_err(failed)?,
        }
        if mine != theirs {
            return Ok(false);
        }
    }
}
