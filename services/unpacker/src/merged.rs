//! What the layers below show together, as overlayfs merges them: the newest layer that has a name decides, whiteouts and
//! opaque directories hide what is under them. Read-only.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Stat},
    io::Errno,
};

use crate::{
    facts,
    file::open_dir,
    name::Place,
    tree::{self, Dir, Tree, Unreachable},
};

const MAX_LINKS: usize = 40;

/// Above so many layers no directory of theirs is kept open: descriptors are few.
const KEPT_OPEN: usize = 128;
/// Places that are remembered of a layer.
const REMEMBERED: usize = 10_000;

/// The layers below, newest first. They do not change: what was once seen is remembered.
pub struct Merged {
    layers: VecDeque<Layer>,
}

struct Layer {
    path: PathBuf,
    tree: Tree,
    /// Where it has nothing to show; `true`: it hides what lower layers have there.
    nothing: RefCell<HashMap<Place, bool>>,
    /// The directory that was looked into last, and whether it hides what lower layers have there.
    last: RefCell<Option<(Place, Dir, bool)>>,
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
    pub fn open(layers: &[PathBuf]) -> Result<Self, (PathBuf, Errno)> {
        Ok(Self { layers: layers.iter().map(|path| Layer::open(path)).collect::<Result<_, _>>()? })
    }

    /// Becomes that of these layers; of those below its own newest one nothing is read again.
    pub fn grow_to(&mut self, layers: &[PathBuf]) -> Result<(), (PathBuf, Errno)> {
        let more = layers.len().checked_sub(self.layers.len());
        let (new, old) = more.and_then(|more| layers.split_at_checked(more)).unwrap_or((layers, &[]));
        if old.iter().ne(self.layers.iter().map(|layer| &layer.path)) {
            *self = Self::open(layers)?;
            return Ok(());
        }
        for path in new.iter().rev() {
            self.layers.push_front(Layer::open(path)?);
        }
        Ok(())
    }

    /// What is at a place, links not followed; `None` if nothing is to be seen there.
    pub fn look(&self, place: &Place) -> Result<Option<Found>, Errno> {
        for layer in &self.layers {
            match layer.look(place, self.layers.len() <= KEPT_OPEN)? {
                Seen::Found(found) => return Ok(Some(found)),
                Seen::Hidden => return Ok(None),
                Seen::Nothing => {}
            }
        }
        Ok(None)
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
    fn open(path: &Path) -> Result<Self, (PathBuf, Errno)> {
        let tree = Tree::open(path).map_err(|errno| (path.to_owned(), errno))?;
        Ok(Self { path: path.to_owned(), tree, nothing: RefCell::default(), last: RefCell::default() })
    }

    fn look(&self, place: &Place, keep: bool) -> Result<Seen, Errno> {
        let Some((name, above)) = place.0.split_last() else {
            let here = self.tree.root().clone();
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
        self.remember(place.clone(), hides);
        Ok(Seen::nothing(hides))
    }

    /// The directory at a place. Who asks for one name mostly asks for its neighbours next.
    fn way_to(&self, above: &[Vec<u8>], keep: bool) -> Result<Way, Errno> {
        if let Some((place, dir, hides)) = &*self.last.borrow()
            && place.0 == above
        {
            return Ok(Way::Dir(dir.clone(), *hides));
        }
        let place = Place(above.to_vec());
        if let Some(hides) = self.nothing.borrow().get(&place) {
            return Ok(Way::Nothing(*hides));
        }
        let way = walk(&self.tree, above)?;
        match &way {
            Way::Dir(dir, hides) => *self.last.borrow_mut() = keep.then(|| (place, dir.clone(), *hides)),
            Way::Nothing(hides) => self.remember(place, *hides),
        }
        Ok(way)
    }

    fn remember(&self, place: Place, hides: bool) {
        let mut nothing = self.nothing.borrow_mut();
        if nothing.len() < REMEMBERED {
            nothing.insert(place, hides);
        }
    }
}

fn walk(layer: &Tree, above: &[Vec<u8>]) -> Result<Way, Errno> {
    let mut here = layer.root().clone();
    let mut hides = facts::is_opaque(&here, b".");
    for part in above {
        let Some(stat) = here.stat(part)? else { return Ok(Way::Nothing(hides)) };
        if tree::kind(&stat) != FileType::Directory {
            // A whiteout, a file or a link: there is nothing below it, neither here nor further down.
            return Ok(Way::Nothing(true));
        }
        hides |= facts::is_opaque(&here, part);
        here = match open_below(&here, part) {
            Ok(dir) => dir,
            Err(Unreachable::System(errno)) => return Err(errno),
            Err(_) => return Ok(Way::Nothing(true)),
        };
    }
    Ok(Way::Dir(here, hides))
}

fn open_below(dir: &Dir, name: &[u8]) -> Result<Dir, Unreachable> {
    let fd = open_dir(std::os::fd::AsFd::as_fd(dir.fd.as_ref()), name)?;
    Ok(Dir { fd: std::sync::Arc::new(fd), place: std::sync::Arc::new(dir.place.join(name)) })
}
