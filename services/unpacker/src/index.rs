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
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    names: HashMap<Box<[u8]>, Kind>,
    /// The root hides what lower layers have.
    hides: bool,
}

/// What a name is, as far as it matters to the layers above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
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

    /// A name that was just made, in a directory that is known or the root.
    pub(crate) fn add(&mut self, path: &[u8], kind: Kind) {
        self.names.insert(path.into(), kind);
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
    use crate::{apply::apply_named, lower, tree::Tree, writers::Writers};

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

    fn unpacked(archive: tar::Builder<Vec<u8>>) -> (tempfile::TempDir, Option<Index>) {
        let scratch = tempfile::tempdir().unwrap();
        let bytes = archive.into_inner().unwrap();
        let writers = Writers::new(2, Some(std::sync::Arc::default()));
        let (_residue, names) = apply_named(&mut &bytes[..], scratch.path(), &writers, &|| false).unwrap();
        (scratch, names)
    }

    /// An archive of these names, each with a letter for what it is.
    fn archive(entries: &[(&str, char)]) -> tar::Builder<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, kind) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o755);
            header.set_entry_type(match kind {
                'd' => tar::EntryType::Directory,
                'l' => tar::EntryType::Symlink,
                'h' => tar::EntryType::Link,
                'p' => tar::EntryType::Fifo,
                'c' | 'w' => tar::EntryType::Char,
                _ => tar::EntryType::Regular,
            });
            header.set_device_major(u32::from(*kind == 'c')).unwrap();
            header.set_device_minor(if *kind == 'c' { 3 } else { 0 }).unwrap();
            match kind {
                'l' | 'h' => archive.append_link(&mut header, name, "a/file").unwrap(),
                _ => archive.append_data(&mut header, name, std::io::empty()).unwrap(),
            }
        }
        archive
    }

    /// Needs root; does nothing without.
    #[test]
    fn what_was_noted_while_it_was_unpacked_is_what_is_there() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let plain = [
            ("a", 'd'),
            ("a/file", 'f'),
            ("a/b/c/implied", 'f'),
            ("a/link", 'l'),
            ("a/hard", 'h'),
            ("pipe", 'p'),
            ("a/.wh.gone", 'f'),
            ("deep/er/.wh.gone", 'f'),
            ("a", 'd'),
            ("link", 'l'),
        ];
        let (scratch, names) = unpacked(archive(&plain));
        let read = Index::read(Tree::open(scratch.path()).unwrap().root(), MOST).unwrap();
        assert_eq!(names.as_ref().unwrap().len(), 13);
        assert_eq!(names, read);
        // What came and went, or is hidden without a name of its own, has to be looked for.
        let (file, gone, opaque) = (("a/file", 'f'), ("a/.wh.file", 'f'), ("a/.wh..wh..opq", 'f'));
        for more in [vec![file, file], vec![file, ("a", 'f')], vec![("a", 'd'), (".wh.a", 'f')]] {
            assert_eq!(unpacked(archive(&more)).1, None, "{more:?}");
        }
        for more in [
            vec![gone, file],
            vec![opaque],
            vec![("gone", 'w')],
            vec![("null", 'c')],
            vec![(".wh.a", 'f'), ("a/b", 'f')],
        ] {
            assert_eq!(unpacked(archive(&more)).1, None, "{more:?}");
        }
        let many: Vec<String> = (0..=lower::FIRST).map(|name| name.to_string()).collect();
        let many: Vec<(&str, char)> = many.iter().map(|name| (name.as_str(), 'f')).collect();
        assert_eq!(unpacked(archive(&many)).1, None);
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
