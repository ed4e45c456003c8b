//! One of the layers below: what it says of a place, what is remembered of that, and the way that is kept open.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{fs::FileType, io::Errno};

use crate::{
    facts,
    file::open_dir,
    index::{Index, MOST},
    memory::{Identity, Memory, Names},
    merged::Found,
    name::Place,
    tree::{self, Dir, Tree, Unreachable},
};

/// Places that are remembered of a layer.
const REMEMBERED: usize = 10_000;
/// A layer that was asked so often is read, if it is small; if it is not, once more when it was asked twice as often.
const OFTEN: usize = 5;
/// To read so many names takes no longer than to ask once.
const WORTH: usize = 100;
/// The first time, so many are.
pub(crate) const FIRST: usize = OFTEN * WORTH;

/// A layer below. It does not change: what was once seen is remembered.
pub(crate) struct Layer {
    pub(crate) path: PathBuf,
    identity: Identity,
    /// Opened when it is first looked into.
    tree: OnceCell<Tree>,
    /// Its names, if it is small. `None` inside: it is not.
    pub(crate) index: OnceCell<Option<Arc<Index>>>,
    /// It has more names than that.
    more_than: Cell<usize>,
    asked: Cell<usize>,
    /// Where it has nothing to show; `true`: it hides what lower layers have there.
    nothing: RefCell<HashMap<Place, bool>>,
    /// Where it has no directory, though perhaps something else.
    no_way: RefCell<HashMap<Place, bool>>,
    /// The last directories of the way that was gone last, each in the one before, and whether they hide what lower layers
    /// have there.
    way: RefCell<Vec<(Dir, bool)>>,
}

/// What a layer says of a place.
pub(crate) enum Seen {
    Found(Found),
    /// This layer hides what lower ones have there.
    Hidden,
    /// Look further below.
    Nothing,
}

impl Seen {
    fn nothing(hides: bool) -> Self {
        if hides { Self::Hidden } else { Self::Nothing }
    }
}

/// How far a layer goes along the way to a place.
enum Way {
    /// The directory that the place is in; `true`: it, or one above it, hides what lower layers have there.
    Dir(Dir, bool),
    /// It does not go there; `true`: nor do lower layers.
    Nothing(bool),
}

impl Layer {
    pub(crate) fn open(path: &Path, memory: &Memory) -> Result<Self, (PathBuf, Errno)> {
        let identity = Identity::of(path).map_err(|errno| (path.to_owned(), errno))?;
        let (index, more_than) = match memory.get(path, identity) {
            Some(Names::All(index)) => (OnceCell::from(Some(index)), 0),
            Some(Names::MoreThan(names)) if names >= MOST => (OnceCell::from(None), names),
            Some(Names::MoreThan(names)) => (OnceCell::new(), names),
            None => (OnceCell::new(), 0),
        };
        Ok(Self {
            path: path.to_owned(),
            identity,
            tree: OnceCell::new(),
            index,
            more_than: Cell::new(more_than),
            asked: Cell::new(0),
            nothing: RefCell::default(),
            no_way: RefCell::default(),
            way: RefCell::default(),
        })
    }

    fn tree(&self) -> Result<&Tree, Errno> {
        if let Some(tree) = self.tree.get() {
            return Ok(tree);
        }
        let tree = Tree::open(&self.path)?;
        Ok(self.tree.get_or_init(|| tree))
    }

    /// Its names, if it was asked often enough and is small.
    pub(crate) fn index(&self, memory: &Memory) -> Result<Option<&Index>, Errno> {
        if let Some(known) = self.index.get() {
            return Ok(known.as_deref());
        }
        let asked = self.asked.get() + 1;
        self.asked.set(asked);
        if !asked.is_multiple_of(OFTEN) || !(asked / OFTEN).is_power_of_two() {
            return Ok(None);
        }
        let most = MOST.min(asked * WORTH);
        if most <= self.more_than.get() {
            return Ok(None);
        }
        let read = Index::read(self.tree()?.root(), most)?.map(Arc::new);
        let names = read.as_ref().map_or(Names::MoreThan(most), |index| Names::All(Arc::clone(index)));
        memory.put(&self.path, self.identity, names);
        if read.is_none() && most < MOST {
            self.more_than.set(most);
            return Ok(None);
        }
        Ok(self.index.get_or_init(|| read).as_deref())
    }

    pub(crate) fn look(&self, place: &Place, keep: usize) -> Result<Seen, Errno> {
        let Some((above, name)) = place.split() else {
            let here = self.tree()?.root().clone();
            let stat = here.stat(b".")?;
            return Ok(stat.map_or(Seen::Nothing, |stat| Seen::Found(Found { dir: here, name: b".".to_vec(), stat })));
        };
        if let Some(hides) = self.nothing.borrow().get(place) {
            return Ok(Seen::nothing(*hides));
        }
        let hides = match self.way_to(above, keep)? {
            Way::Nothing(hides) => hides,
            Way::Dir(dir, hides) => match dir.stat(name)? {
                Some(stat) if tree::is_whiteout(&stat) => true,
                Some(stat) => return Ok(Seen::Found(Found { dir, name: name.to_vec(), stat })),
                None => hides,
            },
        };
        remember(&self.nothing, place.clone(), hides);
        Ok(Seen::nothing(hides))
    }

    /// The directory at a place. Who asks for one name mostly asks for its neighbours next, and then for what is near.
    fn way_to(&self, place: Place, keep: usize) -> Result<Way, Errno> {
        let mut way = self.way.borrow_mut();
        while way.last().is_some_and(|(dir, _)| !place.is_in(&dir.place)) {
            way.pop();
        }
        let known = match way.last() {
            Some((dir, hides)) if *dir.place == place => return Ok(Way::Dir(dir.clone(), *hides)),
            Some((dir, hides)) => Some((dir.clone(), *hides)),
            None => None,
        };
        if let Some(hides) = self.no_way.borrow().get(&place) {
            return Ok(Way::Nothing(*hides));
        }
        let (dir, hides) = match known {
            Some(known) => known,
            None => {
                let root = self.tree()?.root().clone();
                let hides = facts::is_opaque(&root, b".");
                way.push((root.clone(), hides));
                (root, hides)
            }
        };
        let gone = walk(dir, hides, &place, &mut way)?;
        if let Way::Nothing(hides) = &gone {
            remember(&self.no_way, place, *hides);
        }
        let many = way.len().saturating_sub(keep);
        way.drain(..many);
        Ok(gone)
    }
}

fn remember(places: &RefCell<HashMap<Place, bool>>, place: Place, hides: bool) {
    let mut places = places.borrow_mut();
    if places.len() < REMEMBERED {
        places.insert(place, hides);
    }
}

/// Goes on from a directory, and notes those it goes through.
fn walk(mut here: Dir, mut hides: bool, place: &Place, way: &mut Vec<(Dir, bool)>) -> Result<Way, Errno> {
    for part in place.parts().skip(here.place.depth()) {
        let Some(stat) = here.stat(part)? else { return Ok(Way::Nothing(hides)) };
        if tree::kind(&stat) != FileType::Directory {
            // A whiteout, a file or a link: there is nothing below it, neither here nor further down.
            return Ok(Way::Nothing(true));
        }
        here = match open_below(&here, part) {
            Ok(dir) => dir,
            Err(Unreachable::System(errno)) => return Err(errno),
            Err(_) => return Ok(Way::Nothing(true)),
        };
        hides |= facts::is_opaque(&here, b".");
        way.push((here.clone(), hides));
    }
    Ok(Way::Dir(here, hides))
}

fn open_below(dir: &Dir, name: &[u8]) -> Result<Dir, Unreachable> {
    let fd = open_dir(std::os::fd::AsFd::as_fd(dir.fd.as_ref()), name)?;
    Ok(Dir { fd: std::sync::Arc::new(fd), place: std::sync::Arc::new(dir.place.join(name)) })
}
