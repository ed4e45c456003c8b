//! What the layers below show together, as overlayfs merges them: the newest layer that has a name decides, whiteouts and
//! opaque directories hide what is under them. Read-only.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{FileType, Stat},
    io::Errno,
};

use crate::{
    facts,
    file::open_dir,
    index::{Index, MOST, Says},
    memory::{Identity, Memory, Names},
    name::Place,
    tree::{self, Dir, Tree, Unreachable},
};

const MAX_LINKS: usize = 40;

/// Directories of the layers that are kept open, in all: descriptors are few.
const KEPT_OPEN: usize = 128;
/// Places that are remembered of a layer.
const REMEMBERED: usize = 10_000;
/// A layer that was asked so often is read, if it is small; if it is not, once more when it was asked twice as often.
const OFTEN: usize = 5;
/// To read so many names takes no longer than to ask once.
const WORTH: usize = 100;
/// The first time, so many are.
pub(crate) const FIRST: usize = OFTEN * WORTH;

/// The layers below, newest first. They do not change: what was once seen is remembered.
pub struct Merged {
    layers: VecDeque<Layer>,
    memory: Arc<Memory>,
}

struct Layer {
    path: PathBuf,
    identity: Identity,
    /// Opened when it is first looked into.
    tree: OnceCell<Tree>,
    /// Its names, if it is small. `None` inside: it is not.
    index: OnceCell<Option<Arc<Index>>>,
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

/// What is at a place.
#[derive(Debug)]
pub struct Found {
    /// The directory it is in, in the layer that decides.
    pub dir: Dir,
    /// Its name there.
    pub name: Vec<u8>,
    /// What it is.
    pub stat: Stat,
}

impl Merged {
    /// The layers in these directories, newest first.
    pub(crate) fn open(layers: &[PathBuf], memory: &Arc<Memory>) -> Result<Self, (PathBuf, Errno)> {
        let opened = layers.iter().map(|path| Layer::open(path, memory)).collect::<Result<_, _>>()?;
        Ok(Self { layers: opened, memory: Arc::clone(memory) })
    }

    /// Becomes that of these layers; of those below its own newest one nothing is read again.
    pub fn grow_to(&mut self, layers: &[PathBuf]) -> Result<(), (PathBuf, Errno)> {
        let more = layers.len().checked_sub(self.layers.len());
        let (new, old) = more.and_then(|more| layers.split_at_checked(more)).unwrap_or((layers, &[]));
        if old.iter().ne(self.layers.iter().map(|layer| &layer.path)) {
            *self = Self::open(layers, &self.memory)?;
            return Ok(());
        }
        for path in new.iter().rev() {
            self.layers.push_front(Layer::open(path, &self.memory)?);
        }
        Ok(())
    }

    /// What is at a place, links not followed; `None` if nothing is to be seen there.
    pub fn look(&self, place: &Place) -> Result<Option<Found>, Errno> {
        let path = place.0.join(&b'/');
        for layer in &self.layers {
            match self.says(layer, &path)? {
                Some(Says::Hidden) => return Ok(None),
                Some(Says::Nothing) => continue,
                Some(Says::Here) | None => {}
            }
            match layer.look(place, KEPT_OPEN / self.layers.len())? {
                Seen::Found(found) => return Ok(Some(found)),
                Seen::Hidden => return Ok(None),
                Seen::Nothing => {}
            }
        }
        Ok(None)
    }

    /// Whether there is anything to be seen at a place: [`Merged::look`], where no more is asked than that.
    pub fn shows(&self, place: &Place) -> Result<bool, Errno> {
        let path = place.0.join(&b'/');
        for layer in &self.layers {
            match self.says(layer, &path)? {
                Some(Says::Here) => return Ok(true),
                Some(Says::Hidden) => return Ok(false),
                Some(Says::Nothing) => continue,
                None => {}
            }
            match layer.look(place, KEPT_OPEN / self.layers.len())? {
                Seen::Found(_) => return Ok(true),
                Seen::Hidden => return Ok(false),
                Seen::Nothing => {}
            }
        }
        Ok(false)
    }

    /// What is known of a layer without looking into it.
    fn says(&self, layer: &Layer, path: &[u8]) -> Result<Option<Says>, Errno> {
        Ok(layer.index(&self.memory)?.map(|index| index.look(path)))
    }

    /// Where a place really is, links followed in all components but, unless `last`, the last. A component that is not
    /// there is taken as it is. `None`: too many links.
    pub fn resolve(&self, place: &Place, last: bool) -> Result<Option<Place>, Errno> {
        let mut todo: VecDeque<Vec<u8>> = place.0.iter().cloned().collect();
        let mut here = Place::default();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                here.0.pop();
                continue;
            }
            let next = here.join(&part);
            let follow = last || !todo.is_empty();
            let link = match self.look(&next)? {
                Some(found) if follow && tree::kind(&found.stat) == FileType::Symlink => found,
                _ => {
                    here = next;
                    continue;
                }
            };
            links += 1;
            if links > MAX_LINKS {
                return Ok(None);
            }
            let target = rustix::fs::readlinkat(link.dir.fd.as_ref(), link.name.as_slice(), Vec::new())?.into_bytes();
            if target.starts_with(b"/") {
                here = Place::default();
            }
            for part in target.split(|byte| *byte == b'/').rev() {
                if !matches!(part, b"" | b".") {
                    todo.push_front(part.to_vec());
                }
            }
        }
        Ok(Some(here))
    }
}

enum Seen {
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
    fn open(path: &Path, memory: &Memory) -> Result<Self, (PathBuf, Errno)> {
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
    fn index(&self, memory: &Memory) -> Result<Option<&Index>, Errno> {
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

    fn look(&self, place: &Place, keep: usize) -> Result<Seen, Errno> {
        let Some((name, above)) = place.0.split_last() else {
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
                Some(stat) => return Ok(Seen::Found(Found { dir, name: name.clone(), stat })),
                None => hides,
            },
        };
        remember(&self.nothing, place.clone(), hides);
        Ok(Seen::nothing(hides))
    }

    /// The directory at a place. Who asks for one name mostly asks for its neighbours next, and then for what is near.
    fn way_to(&self, above: &[Vec<u8>], keep: usize) -> Result<Way, Errno> {
        let mut way = self.way.borrow_mut();
        while way.last().is_some_and(|(dir, _)| !above.starts_with(&dir.place.0)) {
            way.pop();
        }
        let known = match way.last() {
            Some((dir, hides)) if dir.place.0.len() == above.len() => return Ok(Way::Dir(dir.clone(), *hides)),
            Some((dir, hides)) => Some((dir.clone(), *hides)),
            None => None,
        };
        let place = Place(above.to_vec());
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
        let gone = walk(dir, hides, above, &mut way)?;
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
fn walk(mut here: Dir, mut hides: bool, above: &[Vec<u8>], way: &mut Vec<(Dir, bool)>) -> Result<Way, Errno> {
    for part in above.iter().skip(here.place.0.len()) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode};

    /// A few names in one layer, of all kinds; not the same in each.
    fn make(path: &Path, number: usize) {
        for (count, name) in ["a", "a/a", "a/b", "b", "b/a", "b/a/a", "b/b", "c"].into_iter().enumerate() {
            let (at, what) = (path.join(name), number.wrapping_mul(7).wrapping_add(count * 3) % 8);
            if !at.parent().unwrap().symlink_metadata().is_ok_and(|above| above.is_dir()) {
                continue;
            }
            match what {
                0 => std::fs::write(&at, "x").unwrap(),
                1 => std::os::unix::fs::symlink("a", &at).unwrap(),
                2 => rustix::fs::mknodat(CWD, &at, FileType::CharacterDevice, Mode::empty(), 0).unwrap(),
                3 => {}
                _ => std::fs::create_dir(&at).unwrap(),
            }
            if what == 4 {
                facts::set_opaque(Tree::open(&at).unwrap().root(), b".").unwrap();
            }
        }
    }

    fn shown(found: Option<Found>) -> Option<(u64, u64)> {
        found.map(|found| (found.stat.st_dev, found.stat.st_ino))
    }

    /// Needs root; does nothing without.
    #[test]
    fn names_in_memory_say_the_same_as_the_files() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> = (0..40).map(|number| scratch.path().join(number.to_string())).collect();
        for (number, path) in layers.iter().enumerate() {
            std::fs::create_dir(path).unwrap();
            make(path, number);
        }
        let names = ["a", "b", "c", "d"];
        let deep = names.iter().flat_map(|a| names.iter().map(move |b| format!("{a}/{b}")));
        let deeper = names.iter().flat_map(|a| names.iter().map(move |b| format!("b/{a}/{b}")));
        let places: Vec<Place> = deep
            .chain(deeper)
            .chain(names.map(str::to_owned))
            .map(|name| Place::parse(name.as_bytes()).unwrap())
            .collect();
        let (mut seen, mut hidden) = (0, 0);
        for stack in layers.windows(6) {
            let memory = Arc::default();
            let (often, files) = [&memory, &Arc::default()].map(|memory| Merged::open(stack, memory).unwrap()).into();
            for layer in &files.layers {
                // As if it were large.
                layer.index.set(None).unwrap();
            }
            for _ in 0..2 {
                for place in &places {
                    // Asked once, nothing is read but what the question is about.
                    let found = shown(Merged::open(stack, &Arc::default()).unwrap().look(place).unwrap());
                    let remembered = Merged::open(stack, &memory).unwrap();
                    for merged in [&often, &files, &remembered] {
                        assert_eq!(shown(merged.look(place).unwrap()), found, "{stack:?} {place:?}");
                        assert_eq!(merged.shows(place).unwrap(), found.is_some(), "{stack:?} {place:?}");
                    }
                    if found.is_some() { seen += 1 } else { hidden += 1 }
                }
            }
            assert!(often.layers.iter().any(|layer| matches!(layer.index.get(), Some(Some(_)))));
            assert!(
                stack.iter().any(|path| matches!(memory.get(path, Identity::of(path).unwrap()), Some(Names::All(_))))
            );
        }
        assert!(seen > 200 && hidden > 200, "{seen} {hidden}");
    }
}
