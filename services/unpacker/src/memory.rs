//! What is remembered of committed layers from one commit to the next: the names of small ones, and which are too large for
//! that. Layers of one image are mostly committed in several groups, and each group looks into all layers below it.
//!
//! A committed layer does not change. One that was removed and made anew, or repaired, is another directory, and is told by
//! that: what is remembered counts only while inode and time of change of the tree's root are the same.
//!
//! The names of a small layer are known to whoever unpacked it. Settling it may change them, so until then they are for whoever
//! settles it, and for nobody else.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, CWD},
    io::Errno,
};

use crate::index::Index;

/// Names remembered in all, at some hundred bytes each.
const NAMES: usize = 100_000;
/// Layers remembered, at most.
const LAYERS: usize = 1_000;
/// What nobody asked for so long is forgotten.
pub(crate) const KEPT: Duration = Duration::from_secs(60);

/// What is known of layers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    layers: Mutex<HashMap<PathBuf, Known>>,
}

#[derive(Debug)]
struct Known {
    identity: Identity,
    names: Names,
    /// They are what they will be.
    settled: bool,
    used: Instant,
}

/// The names in a tree, as far as they were read.
#[derive(Clone, Debug)]
pub(crate) enum Names {
    /// All of them.
    All(Arc<Index>),
    /// There are more than so many, or they are too deep: to read no more of them again is in vain.
    MoreThan(usize),
}

impl Names {
    /// What they take, in names; a tree of which nothing is kept but its path is one of few.
    fn len(&self) -> usize {
        match self {
            Self::All(index) => index.len(),
            Self::MoreThan(_) => 0,
        }
    }
}

/// What tells a tree from another one at the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    changed: (i64, u64),
}

impl Identity {
    /// Of the tree at a path.
    pub(crate) fn of(path: &Path) -> Result<Self, Errno> {
        let stat = rustix::fs::statat(CWD, path, AtFlags::empty())?;
        Ok(Self { device: stat.st_dev, inode: stat.st_ino, changed: (stat.st_ctime, stat.st_ctime_nsec) })
    }
}

impl Memory {
    /// What is known of this tree.
    pub(crate) fn get(&self, path: &Path, identity: Identity) -> Option<Names> {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = layers.get_mut(path).filter(|known| known.settled && known.identity == identity)?;
        known.used = Instant::now();
        Some(known.names.clone())
    }

    /// Remembers the names in a tree; what was not asked for longest gives way.
    pub(crate) fn put(&self, path: &Path, identity: Identity, names: Names) {
        self.insert(path, Known { identity, names, settled: true, used: Instant::now() });
    }

    /// Remembers the names in a tree that is still to be settled.
    pub(crate) fn put_unsettled(&self, path: &Path, names: Index) {
        if let Ok(identity) = Identity::of(path) {
            let names = Names::All(Arc::new(names));
            self.insert(path, Known { identity, names, settled: false, used: Instant::now() });
        }
    }

    /// Gives away the names in a tree that is about to be settled.
    pub(crate) fn take_unsettled(&self, path: &Path) -> Option<Arc<Index>> {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = layers.get(path).filter(|known| !known.settled)?;
        let same = Identity::of(path) == Ok(known.identity);
        match layers.remove(path)?.names {
            Names::All(names) if same => Some(names),
            _ => None,
        }
    }

    fn insert(&self, path: &Path, known: Known) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.insert(path.to_owned(), known);
        let mut names: usize = layers.values().map(|known| known.names.len()).sum();
        while names > NAMES || layers.len() > LAYERS {
            let oldest = layers.iter().min_by_key(|(_, known)| known.used).map(|(path, _)| path.clone());
            let Some(gone) = oldest.and_then(|path| layers.remove(&path)) else { return };
            names -= gone.names.len();
        }
    }

    /// Forgets what nobody asked for in this time; `true`: nothing is left.
    pub(crate) fn forget_unused(&self, time: Duration) -> bool {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.retain(|_, known| known.used.elapsed() < time);
        layers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{index::MOST, merged::Merged, name::Place, tree::Tree};

    fn read(path: &Path) -> Names {
        Names::All(Arc::new(Index::read(Tree::open(path).unwrap().root(), usize::MAX).unwrap().unwrap()))
    }

    #[test]
    fn another_tree_at_the_same_path_is_not_known() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("fs");
        std::fs::create_dir(&path).unwrap();
        let (memory, first) = (Memory::default(), Identity::of(&path).unwrap());
        memory.put(&path, first, read(&path));
        assert!(memory.get(&path, Identity::of(&path).unwrap()).is_some());
        // Both are there for a moment, as in a repair.
        std::fs::create_dir(scratch.path().join("new")).unwrap();
        std::fs::rename(scratch.path().join("new"), &path).unwrap();
        assert!(memory.get(&path, Identity::of(&path).unwrap()).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let scratch = tempfile::tempdir().unwrap();
        for name in 0..1000 {
            std::fs::write(scratch.path().join(name.to_string()), "").unwrap();
        }
        let (memory, names) = (Memory::default(), read(scratch.path()));
        let identity = Identity::of(scratch.path()).unwrap();
        let path = |n: usize| PathBuf::from(n.to_string());
        for n in 0..NAMES / 1000 {
            memory.put(&path(n), identity, names.clone());
        }
        assert!(memory.get(&path(0), identity).is_some(), "asked for last");
        memory.put(&path(1000), identity, names);
        let there = [0, 1, 2, 1000].map(|n| memory.get(&path(n), identity).is_some());
        assert_eq!(there, [true, false, true, true]);
        assert!(!memory.forget_unused(KEPT));
        assert!(memory.forget_unused(Duration::ZERO) && memory.get(&path(2), identity).is_none());
        // What is too large takes no names, but a place.
        for n in 0..=LAYERS {
            memory.put(&path(n), identity, Names::MoreThan(n));
        }
        assert!(memory.get(&path(0), identity).is_none(), "asked for longest ago");
        assert!(matches!(memory.get(&path(LAYERS), identity), Some(Names::MoreThan(LAYERS))));
        assert_eq!(memory.layers.lock().unwrap().len(), LAYERS);
    }

    /// A commit asks a layer below it this often.
    fn commit(layer: &Path, memory: &Arc<Memory>, times: usize) {
        let below = Merged::open(&[layer.to_owned()], memory).unwrap();
        for number in 0..times {
            assert!(!below.shows(&Place::parse(format!("not{number}").as_bytes()).unwrap()).unwrap());
        }
    }

    /// Layers do not change; this one does, below its root, and so shows who reads it again.
    #[test]
    fn what_was_too_large_is_not_read_again() {
        for (asked, more_than, again) in [(5, 500, 5), (10, 1000, 15), (40, MOST, 160)] {
            let (scratch, memory) = (tempfile::tempdir().unwrap(), Arc::<Memory>::default());
            let below = scratch.path().join("below");
            let known = || memory.get(scratch.path(), Identity::of(scratch.path()).unwrap());
            std::fs::create_dir(&below).unwrap();
            for name in 0..=MOST {
                std::fs::write(below.join(name.to_string()), "").unwrap();
            }
            commit(scratch.path(), &memory, asked);
            assert!(matches!(known(), Some(Names::MoreThan(most)) if most == more_than), "{asked}: {:?}", known());
            for name in 0..=MOST {
                std::fs::remove_file(below.join(name.to_string())).unwrap();
            }
            commit(scratch.path(), &memory, again);
            assert!(matches!(known(), Some(Names::MoreThan(most)) if most == more_than), "{asked}: {:?}", known());
            // With more patience than ever before, if it makes sense.
            commit(scratch.path(), &memory, 2 * asked);
            assert_eq!(matches!(known(), Some(Names::All(_))), more_than < MOST, "{asked}: {:?}", known());
        }
    }
}
