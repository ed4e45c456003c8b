//! What the layers below show together, as overlayfs merges them: the newest layer that has a name decides, whiteouts and
//! opaque directories hide what is under them. Read-only.

use std::{collections::VecDeque, path::PathBuf};

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

/// The layers below, newest first.
pub struct Merged {
    layers: Vec<Tree>,
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
        let open = |path: &PathBuf| Tree::open(path).map_err(|errno| (path.clone(), errno));
        Ok(Self { layers: layers.iter().map(open).collect::<Result<_, _>>()? })
    }

    /// What is at a place, links not followed; `None` if nothing is to be seen there.
    pub fn look(&self, place: &Place) -> Result<Option<Found>, Errno> {
        for layer in &self.layers {
            match look_in(layer, place)? {
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

fn look_in(layer: &Tree, place: &Place) -> Result<Seen, Errno> {
    let mut here = layer.root().clone();
    let mut hides = facts::is_opaque(&here, b".");
    let Some((last, above)) = place.0.split_last() else {
        let stat = here.stat(b".")?;
        return Ok(stat.map_or(Seen::Nothing, |stat| Seen::Found(Found { dir: here, name: b".".to_vec(), stat })));
    };
    let nothing = |hides: bool| if hides { Seen::Hidden } else { Seen::Nothing };
    for part in above {
        let Some(stat) = here.stat(part)? else { return Ok(nothing(hides)) };
        if tree::kind(&stat) != FileType::Directory {
            // A whiteout, a file or a link: there is nothing below it, neither here nor further down.
            return Ok(Seen::Hidden);
        }
        hides |= facts::is_opaque(&here, part);
        here = match open_below(&here, part) {
            Ok(dir) => dir,
            Err(Unreachable::System(errno)) => return Err(errno),
            Err(_) => return Ok(Seen::Hidden),
        };
    }
    match here.stat(last)? {
        None => Ok(nothing(hides)),
        Some(stat) if tree::is_whiteout(&stat) => Ok(Seen::Hidden),
        Some(stat) => Ok(Seen::Found(Found { dir: here, name: last.clone(), stat })),
    }
}

fn open_below(dir: &Dir, name: &[u8]) -> Result<Dir, Unreachable> {
    let fd = open_dir(std::os::fd::AsFd::as_fd(dir.fd.as_ref()), name)?;
    Ok(Dir { fd: std::sync::Arc::new(fd), place: std::sync::Arc::new(dir.place.join(name)) })
}
