//! The names of a small layer, read once: a stack of a hundred layers is asked for the same few names again and again, and
//! each answer would take several calls of the system for each layer.

use std::{collections::HashMap, os::fd::AsFd as _};

use rustix::{fs::FileType, io::Errno};

use crate::{
    facts,
    file::open_dir,
    tree::{self, Dir},
};

/// A layer with more names is asked each time.
pub(crate) const MOST: usize = 4_000;
/// Nor is one that is deeper kept: a directory is open for each level while it is read.
const DEEPEST: usize = 64;

/// The names in a layer's tree, which does not change.
#[derive(Debug)]
pub(crate) struct Index {
    names: HashMap<Box<[u8]>, Kind>,
    /// The root hides what lower layers have.
    hides: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// It, or one above it, hides what lower layers have in it, or does not.
    Directory {
        hides: bool,
    },
    Whiteout,
    Other,
}

/// What a layer says of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// It is here.
    Here,
    /// It is not here, and what lower layers have there is hidden.
    Hidden,
    /// Nothing.
    Nothing,
}

impl Index {
    /// Reads the tree below a directory. `None`: it has more names than `most` or [`MOST`], or is too deep.
    pub(crate) fn read(root: &Dir, most: usize) -> Result<Option<Self>, Errno> {
        let hides = facts::is_opaque(root, b".");
        let mut index = Self { names: HashMap::new(), hides };
        let whole = index.read_dir(root, &[], hides, (most.min(MOST), DEEPEST))?;
        Ok(whole.then_some(index))
    }

    fn read_dir(
        &mut self,
        dir: &Dir,
        above: &[u8],
        hides: bool,
        (most, deepest): (usize, usize),
    ) -> Result<bool, Errno> {
        for entry in rustix::fs::Dir::read_from(dir.fd.as_fd())? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if self.names.len() >= most || deepest == 0 {
                return Ok(false);
            }
            let path = if above.is_empty() { name.to_vec() } else { [above, b"/", name].concat() };
            let kind = match entry.file_type() {
                // Any device may be a whiteout, and some file systems tell no kinds.
                FileType::CharacterDevice | FileType::Unknown => {
                    let Some(stat) = dir.stat(name)? else { continue };
                    if tree::is_whiteout(&stat) { None } else { Some(tree::kind(&stat)) }
                }
                kind => Some(kind),
            };
            let kind = match kind {
                None => Kind::Whiteout,
                Some(FileType::Directory) => {
                    let fd = open_dir(dir.fd.as_fd(), name)?;
                    let below = Dir { fd: std::sync::Arc::new(fd), place: std::sync::Arc::clone(&dir.place) };
                    let hides = hides || facts::is_opaque(&below, b".");
                    if !self.read_dir(&below, &path, hides, (most, deepest - 1))? {
                        return Ok(false);
                    }
                    Kind::Directory { hides }
                }
                Some(_) => Kind::Other,
            };
            self.names.insert(path.into_boxed_slice(), kind);
        }
        Ok(true)
    }

    /// What the layer says of a path: components with slashes between.
    pub(crate) fn look(&self, path: &[u8]) -> Says {
        if path.is_empty() {
            return Says::Here;
        }
        match self.names.get(path) {
            Some(Kind::Whiteout) => return Says::Hidden,
            Some(_) => return Says::Here,
            None => {}
        }
        let mut above = path;
        while let Some(slash) = above.iter().rposition(|byte| *byte == b'/') {
            above = above.get(..slash).unwrap_or_default();
            match self.names.get(above) {
                None => {}
                Some(Kind::Directory { hides: false }) => return Says::Nothing,
                // Below a whiteout, a file or a link there is nothing, neither here nor further down.
                Some(_) => return Says::Hidden,
            }
        }
        if self.hides { Says::Hidden } else { Says::Nothing }
    }

    /// Whether the layer hides what lower ones have in the directory that a path is in.
    pub(crate) fn hides_around(&self, path: &[u8]) -> bool {
        let mut above = path;
        while let Some(slash) = above.iter().rposition(|byte| *byte == b'/') {
            above = above.get(..slash).unwrap_or_default();
            if let Some(Kind::Directory { hides }) = self.names.get(above) {
                return *hides;
            }
        }
        self.hides
    }

    /// How many names there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn says_what_the_layer_says() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        std::fs::create_dir_all(at("a/b/c")).unwrap();
        std::fs::create_dir_all(at("empty")).unwrap();
        std::fs::write(at("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        let root = rustix::process::geteuid().is_root();
        let tree = Tree::open(scratch.path()).unwrap();
        if root {
            let gone = rustix::fs::mknodat(
                tree.root().fd.as_fd(),
                "a/gone",
                FileType::CharacterDevice,
                rustix::fs::Mode::empty(),
                0,
            );
            gone.unwrap();
            facts::set_opaque(tree.root(), b"empty").unwrap();
        }
        let index = Index::read(tree.root(), MOST).unwrap().unwrap();
        let table = [
            ("", Says::Here),
            ("a/b/c", Says::Here),
            ("a/b/file", Says::Here),
            ("a/b/file/x", Says::Hidden),
            ("a/b/other", Says::Nothing),
            ("a/b/c/d/e", Says::Nothing),
            ("link", Says::Here),
            ("link/b", Says::Hidden),
            ("nothing/x", Says::Nothing),
        ];
        let hidden =
            [("a/gone", Says::Hidden), ("a/gone/x", Says::Hidden), ("empty", Says::Here), ("empty/x/y", Says::Hidden)];
        for (path, says) in table.iter().chain(hidden.iter().filter(|_| root)) {
            assert_eq!(index.look(path.as_bytes()), *says, "{path}");
        }
        for (path, hides) in [("", false), ("a", false), ("a/b/c", false), ("empty", false), ("empty/x/y", root)] {
            assert_eq!(index.hides_around(path.as_bytes()), hides, "{path}");
        }
    }

    #[test]
    fn a_large_layer_is_not_read() {
        let scratch = tempfile::tempdir().unwrap();
        for name in 0..=MOST {
            std::fs::write(scratch.path().join(name.to_string()), "").unwrap();
        }
        assert!(Index::read(Tree::open(scratch.path()).unwrap().root(), usize::MAX).unwrap().is_none());
    }
}
