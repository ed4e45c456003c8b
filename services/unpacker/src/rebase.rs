//! Settles what a layer left open, now that the layers below are known.
//!
//! Layers are unpacked at the same time, none seeing another. For most entries that is no matter; for these it is:
//!
//! - a directory the layer only passes through takes over mode, owner, attributes and time from below;
//! - if below there is a symbolic link instead, the layer meant the directory it leads to: what the layer has there moves;
//! - a whiteout that hides nothing goes: in a directory that no other layer has, overlayfs would list it as a name;
//! - a hard link to a file of a lower layer needs that file here: it is copied up, as overlayfs would, and linked.
//!
//! The result is what unpacking onto the merged tree would have given. Every step may be done again: a process that dies
//! in the middle leaves a tree that the next one settles from the start.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use berth_failpoint::{Point, check};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use crate::{
    error::ApplyError,
    facts::{self, Facts},
    index::Index,
    lower,
    memory::{Identity, Memory, Names},
    merged::{Found, Merged},
    name::Place,
    residue::Residue,
    tree::{self, Dir, Tree},
};

/// What lies below the layers of a stack, which are settled one after another.
#[derive(Default)]
pub struct Below {
    merged: Option<Merged>,
    memory: Arc<Memory>,
    /// The names in the layer that is being settled, as long as they are known.
    own: Option<Arc<Index>>,
}

impl Below {
    /// With what is remembered of committed layers.
    pub(crate) fn with(memory: &Arc<Memory>) -> Self {
        Self { merged: None, memory: Arc::clone(memory), own: None }
    }

    /// A layer is about to be settled. `complete`: its tree has all that it will have, but for what is settled.
    pub(crate) fn begin(&mut self, tree: &Path, complete: bool) {
        self.own = self.memory.take_unsettled(tree).filter(|_| complete);
    }

    /// It is settled and holds so many files: its names need not be read again if they are known, nor those of a large one to
    /// count them.
    pub(crate) fn settled(&mut self, tree: &Path, inodes: u64) {
        let more_than = usize::try_from(inodes).unwrap_or(usize::MAX).saturating_sub(1);
        let names = match self.own.take() {
            Some(index) => Names::All(index),
            None if more_than >= lower::FIRST => Names::MoreThan(more_than),
            None => return,
        };
        if let Ok(identity) = Identity::of(tree) {
            self.memory.put(tree, identity, names);
        }
    }

    fn of(&mut self, lowers: &[PathBuf]) -> Result<&Merged, ApplyError> {
        let refused = |(path, errno): (PathBuf, Errno)| {
            ApplyError::refused(path.as_os_str().as_encoded_bytes(), "open a layer below", errno)
        };
        let merged = match self.merged.take() {
            Some(mut merged) => merged.grow_to(lowers).map(|()| merged),
            None => Merged::open(lowers, &self.memory),
        };
        Ok(self.merged.insert(merged.map_err(refused)?))
    }
}

/// Settles `residue` in `upper` over `lowers` (newest first, settled already). Answers what the tree holds now.
pub fn rebase(upper: &Path, lowers: &[PathBuf], residue: Residue) -> Result<Residue, ApplyError> {
    rebase_in(upper, lowers, residue, &mut Below::default())
}

/// The same as one of a stack: what is known of the layers below serves the next one too.
pub fn rebase_in(upper: &Path, lowers: &[PathBuf], residue: Residue, below: &mut Below) -> Result<Residue, ApplyError> {
    if residue.implied.is_empty() && residue.links.is_empty() && residue.whiteouts.is_empty() {
        return Ok(residue);
    }
    let tree = Tree::open(upper).map_err(|errno| refused(&Place::default(), "open the directory", errno))?;
    let (own, merged) = (below.own.take(), below.of(lowers)?);
    let (times, changed, anywhere) = (BTreeMap::new(), BTreeSet::new(), !residue.links.is_empty());
    let mut rebase = Rebase { tree, below: merged, own, residue, times, changed, anywhere, opaque: HashMap::new() };
    rebase.implied()?;
    rebase.links()?;
    rebase.whiteouts()?;
    let (changed, anywhere) = (rebase.changed, rebase.anywhere);
    // Where a name came or went, its directory changed.
    let names = rebase.own.filter(|_| !anywhere && changed.is_empty());
    let own = rebase.residue.times.iter().filter(|(place, _)| anywhere || changed.contains(place)).cloned();
    // A time taken over counts only where the layer itself says nothing.
    let mut times = rebase.times;
    times.extend(own);
    let times: Vec<_> = times.into_iter().collect();
    facts::set_times(&mut rebase.tree, &times)?;
    let residue = rebase.residue;
    below.own = names;
    Ok(residue)
}

struct Rebase<'a> {
    tree: Tree,
    below: &'a Merged,
    /// The names in the layer, as they were at first.
    own: Option<Arc<Index>>,
    residue: Residue,
    /// Times taken over from below.
    times: BTreeMap<Place, (i64, u32)>,
    /// Directories whose own times were changed by what was done in them, now or by a try that died.
    changed: BTreeSet<Place>,
    /// Those of any directory may have been.
    anywhere: bool,
    /// Which directories of the layer hide what is below them.
    opaque: HashMap<Place, bool>,
}

fn refused(place: &Place, doing: &'static str, errno: Errno) -> ApplyError {
    ApplyError::refused(place.shown().as_bytes(), doing, errno)
}

impl Rebase<'_> {
    /// Settles the directories passed through, from the top down: what is above decides where those below are.
    fn implied(&mut self) -> Result<(), ApplyError> {
        while let Some(place) = self.residue.implied.iter().min_by_key(|place| place.depth()).cloned() {
            check(Point::UnpackSettle)
                .map_err(|error| ApplyError::refused(place.shown().as_bytes(), "settle it", error))?;
            self.residue.implied.remove(&place);
            if self.is_cut_off(&place)? {
                continue;
            }
            let found = self.below.look(&place).map_err(|errno| refused(&place, "look below", errno))?;
            let Some(found) = found else { continue };
            match tree::kind(&found.stat) {
                FileType::Directory => self.take_over(&place, &found)?,
                FileType::Symlink => self.follow(&place)?,
                // A file below: the layer replaced it by a directory.
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes owner, mode, attributes and time of a directory over.
    fn take_over(&mut self, place: &Place, found: &Found) -> Result<(), ApplyError> {
        let facts = Facts::read(&found.dir, &found.name, &found.stat)
            .map_err(|errno| refused(place, "read a directory below", errno))?;
        let Some((dir, name)) = self.at(place)? else { return Ok(()) };
        facts.put(&dir, &name, FileType::Directory).map_err(|error| refused(place, error.doing, error.errno))?;
        self.times.insert(place.clone(), facts.mtime);
        Ok(())
    }

    /// The directory a place is in, and its name there.
    fn at(&mut self, place: &Place) -> Result<Option<(Dir, Vec<u8>)>, ApplyError> {
        let Some((above, name)) = place.split() else { return Ok(Some((self.tree.root().clone(), b".".to_vec()))) };
        match self.tree.dir(&above) {
            Ok(dir) => Ok(Some((dir, name.to_vec()))),
            Err(tree::Unreachable::System(errno)) => Err(refused(place, "reach it", errno)),
            Err(_) => Ok(None),
        }
    }

    /// Below there is a link: moves what the layer has at `place` to where the link leads.
    fn follow(&mut self, place: &Place) -> Result<(), ApplyError> {
        let target = self.below.resolve(place, true).map_err(|errno| refused(place, "follow a link below", errno))?;
        // A link in circles, or back to itself or below, is hidden by the layer's directory.
        let Some(target) = target.filter(|target| !target.is_in(place)) else { return Ok(()) };
        let found = self.below.look(&target).map_err(|errno| refused(&target, "look below", errno))?;
        if found.is_some_and(|found| tree::kind(&found.stat) != FileType::Directory) {
            return Ok(());
        }
        let Some((from, name)) = self.at(place)? else { return Ok(()) };
        self.anywhere = true;
        self.opaque.clear();
        self.make_way(&target)?;
        self.move_into(&from, &name, place, &target)?;
        // Passed through under its old name, so under the new one too, unless the layer speaks of that itself.
        if !self.speaks_of(&target) {
            self.residue.implied.insert(target);
        }
        Ok(())
    }

    /// Makes the directories above a place that the layer has not; they are settled like all that it passes through.
    fn make_way(&mut self, place: &Place) -> Result<(), ApplyError> {
        for above in place.above().skip(1) {
            self.make_dir(&above)?;
        }
        Ok(())
    }

    fn make_dir(&mut self, place: &Place) -> Result<(), ApplyError> {
        let Some((dir, name)) = self.at(place)? else { return Ok(()) };
        match rustix::fs::mkdirat(dir.fd.as_fd(), name.as_slice(), Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                // Neither the group nor the bit of a directory above that hands its group down.
                tree::make_plain(&dir, &name).map_err(|errno| refused(place, "make a directory", errno))?;
                self.residue.count(4096);
            }
            Err(Errno::EXIST) if !self.speaks_of(place) && !self.residue.implied.contains(place) => {}
            Err(Errno::EXIST) => return Ok(()),
            Err(errno) => return Err(refused(place, "make a directory", errno)),
        }
        let found = self.below.look(place).map_err(|errno| refused(place, "look below", errno))?;
        match found {
            Some(found) if tree::kind(&found.stat) == FileType::Directory => self.take_over(place, &found),
            _ => Ok(()),
        }
    }

    /// Whether the layer has an entry for this directory.
    fn speaks_of(&self, place: &Place) -> bool {
        self.residue.times.iter().any(|(known, _)| known == place)
    }

    /// Moves a name to a place; directories are merged, and what moves wins.
    fn move_into(&mut self, from: &Dir, name: &[u8], old: &Place, new: &Place) -> Result<(), ApplyError> {
        let Some((to, base)) = self.at(new)? else { return Ok(()) };
        let look = |dir: &Dir, name: &[u8]| dir.stat(name).map_err(|errno| refused(new, "look at it", errno));
        let is_dir =
            |stat: &Option<rustix::fs::Stat>| stat.as_ref().is_some_and(|stat| tree::kind(stat) == FileType::Directory);
        let (moving, there) = (look(from, name)?, look(&to, &base)?);
        if is_dir(&moving) && is_dir(&there) {
            let inner = self.tree.dir(old).map_err(|_gone| refused(old, "reach it", Errno::NOENT))?;
            for below in tree::names(inner.fd.as_fd()).map_err(|errno| refused(old, "list it", errno))? {
                self.move_into(&inner, &below, &old.join(&below), &new.join(&below))?;
            }
            drop(inner);
            self.tree.forget();
            tree::remove(from.fd.as_fd(), name).map_err(|errno| refused(old, "remove it", errno))?;
            self.residue.inodes = self.residue.inodes.saturating_sub(1);
            self.residue.moved(old, new);
            return Ok(());
        }
        if moving.is_none() {
            return Ok(());
        }
        if there.is_some() {
            tree::remove(to.fd.as_fd(), &base).map_err(|errno| refused(new, "replace it", errno))?;
        }
        rustix::fs::renameat(from.fd.as_fd(), name, to.fd.as_fd(), base.as_slice())
            .map_err(|errno| refused(new, "move it", errno))?;
        self.tree.forget();
        self.residue.moved(old, new);
        Ok(())
    }

    /// Whether the layer shows nothing of those below at this place: it hides what they have in a directory above.
    fn is_cut_off(&mut self, place: &Place) -> Result<bool, ApplyError> {
        if let (Some(own), false) = (&self.own, self.anywhere) {
            return Ok(own.hides_around(place.path()));
        }
        for above in place.above() {
            if self.is_opaque(above)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_opaque(&mut self, place: Place) -> Result<bool, ApplyError> {
        if let Some(opaque) = self.opaque.get(&place) {
            return Ok(*opaque);
        }
        let opaque = match self.tree.dir(&place) {
            // Not what a link leads to.
            Ok(dir) if *dir.place == place => facts::is_opaque(&dir, b"."),
            _ => match self.at(&place)? {
                Some((dir, name)) => facts::is_opaque(&dir, &name),
                None => false,
            },
        };
        self.opaque.insert(place, opaque);
        Ok(opaque)
    }

    /// Removes the whiteouts that hide nothing.
    fn whiteouts(&mut self) -> Result<(), ApplyError> {
        for place in std::mem::take(&mut self.residue.whiteouts) {
            let hides = self.below.shows(&place).map_err(|errno| refused(&place, "look below", errno))?;
            if hides && !self.is_cut_off(&place)? {
                continue;
            }
            let Some((dir, name)) = self.at(&place)? else { continue };
            // Also if it is gone: whoever removed it may have died before the time was set again.
            self.changed.extend(place.split().map(|(above, _)| above));
            let failed = |errno| refused(&place, "remove a whiteout that hides nothing", errno);
            // Something else may have come in its place.
            if dir.stat(&name).map_err(failed)?.is_some_and(|stat| tree::is_whiteout(&stat)) {
                rustix::fs::unlinkat(dir.fd.as_fd(), name.as_slice(), AtFlags::empty()).map_err(failed)?;
                self.residue.inodes = self.residue.inodes.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Makes the hard links whose targets lie below.
    fn links(&mut self) -> Result<(), ApplyError> {
        for (name, target) in std::mem::take(&mut self.residue.links) {
            self.link(&name, &target)?;
        }
        Ok(())
    }

    /// Whether the layer has something at a place.
    fn has(&mut self, place: &Place) -> Result<bool, Errno> {
        let Some((above, base)) = place.split() else { return Ok(true) };
        match self.tree.dir(&above) {
            Ok(dir) => Ok(dir.stat(base)?.is_some_and(|stat| !tree::is_whiteout(&stat))),
            Err(_) => Ok(false),
        }
    }

    fn link(&mut self, name: &Place, target: &Place) -> Result<(), ApplyError> {
        let nowhere = || {
            let reason = format!("a hard link to {:?}, which is in no layer", target.shown());
            ApplyError::hostile(name.shown().as_bytes(), reason)
        };
        let failed = |errno| refused(name, "make a hard link", errno);
        // What the layer has itself hides whatever is below, and needs no way through links that are there.
        let target = match self.has(target).map_err(failed)? {
            true => target.clone(),
            false => self.below.resolve(target, false).map_err(failed)?.ok_or_else(nowhere)?,
        };
        if !self.has(&target).map_err(failed)? {
            let found = self.below.look(&target).map_err(failed)?.ok_or_else(nowhere)?;
            self.copy_up(&target, &found)?;
        }
        let Some((from, base)) = self.at(&target)? else { return Err(nowhere()) };
        let Some((dir, last)) = self.at(name)? else { return Err(nowhere()) };
        tree::remove(dir.fd.as_fd(), &last).map_err(failed)?;
        rustix::fs::linkat(from.fd.as_fd(), base.as_slice(), dir.fd.as_fd(), last.as_slice(), AtFlags::empty())
            .map_err(failed)
    }

    /// Copies a file of a lower layer into this one, at the same place.
    fn copy_up(&mut self, place: &Place, found: &Found) -> Result<(), ApplyError> {
        let failed = |errno| refused(place, "copy it up from the layer below", errno);
        self.make_way(place)?;
        let Some((dir, name)) = self.at(place)? else { return Err(failed(Errno::NOENT)) };
        tree::remove(dir.fd.as_fd(), &name).map_err(failed)?;
        let facts = Facts::read(&found.dir, &found.name, &found.stat).map_err(failed)?;
        let kind = tree::kind(&found.stat);
        let (fd, from) = (dir.fd.as_fd(), found.dir.fd.as_fd());
        match kind {
            FileType::RegularFile => {
                let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let write = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let mut source =
                    File::from(rustix::fs::openat(from, found.name.as_slice(), read, Mode::empty()).map_err(failed)?);
                let mut copy = File::from(
                    rustix::fs::openat(fd, name.as_slice(), write, Mode::from_raw_mode(0o600)).map_err(failed)?,
                );
                let bytes = std::io::copy(&mut source, &mut copy).map_err(|error| {
                    ApplyError::refused(place.shown().as_bytes(), "copy it up from the layer below", error)
                })?;
                self.residue.count(bytes);
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, found.name.as_slice(), Vec::new()).map_err(failed)?;
                rustix::fs::symlinkat(target.as_c_str(), fd, name.as_slice()).map_err(failed)?;
                self.residue.count(0);
            }
            FileType::Directory => {
                return Err(ApplyError::hostile(
                    place.shown().as_bytes(),
                    "a hard link to a directory of a lower layer",
                ));
            }
            kind => {
                rustix::fs::mknodat(fd, name.as_slice(), kind, Mode::from_raw_mode(0o600), found.stat.st_rdev)
                    .map_err(failed)?;
                self.residue.count(0);
            }
        }
        facts.put(&dir, &name, kind).map_err(|error| refused(place, error.doing, error.errno))
    }
}

#[cfg(test)]
mod tests;
