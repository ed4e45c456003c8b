//! What the layers below show together, as overlayfs merges them: the newest layer that has a name decides, whiteouts and
//! opaque directories hide what is under them. Read-only.

use std::{collections::VecDeque, path::PathBuf, sync::Arc};

use rustix::{
    fs::{FileType, Stat},
    io::Errno,
};

use crate::{
    index::Says,
    lower::{Layer, Seen},
    memory::Memory,
    name::Place,
    tree::{self, Dir},
};

const MAX_LINKS: usize = 40;

/// Directories of the layers that are kept open, in all: descriptors are few.
const KEPT_OPEN: usize = 128;

/// The layers below, newest first. They do not change: what was once seen is remembered.
pub struct Merged {
    layers: VecDeque<Layer>,
    memory: Arc<Memory>,
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
        for layer in &self.layers {
            match self.says(layer, place.path())? {
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
        for layer in &self.layers {
            match self.says(layer, place.path())? {
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
        let mut todo: VecDeque<Vec<u8>> = place.parts().map(<[u8]>::to_vec).collect();
        let mut here = Place::default();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                here.climb();
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        facts,
        memory::{Identity, Names},
        tree::Tree,
    };
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
