//! Lays a tree in overlayfs form on a plain one, for good: what it hides is removed there, what it has comes over.

use std::{collections::HashMap, os::fd::AsFd as _, path::Path};

use rustix::{
    fs::{AtFlags, FileType, Mode},
    io::Errno,
};

use crate::{
    copy::{Copier, Refused, put_dir},
    facts, hidden,
    name::Place,
    tree::{self, Dir, Tree},
};

/// How files come over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// As copies.
    Copied,
    /// As the same files, under one more name; for a layer that will go, on the same file system.
    Linked,
}

/// What becomes of that which the layer hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hides {
    /// It is removed.
    Now,
    /// It is removed, and stays hidden from what may come below: the result is in overlayfs form too.
    Always,
}

/// Lays `layer` on what is below the directory `onto`.
pub fn onto(layer: &Path, onto: &Path, files: Files, hides: Hides) -> Result<(), Refused> {
    let root = Place::default();
    let layer = Tree::open(layer).map_err(Refused::new("open it", &root))?;
    let under = Tree::open(onto).map_err(Refused::new("open what is below", &root))?;
    let copier = Copier { root: under.root().clone(), names: HashMap::new() };
    Merge { copier, files, hides }.dir(layer.root(), under.root())
}

struct Merge {
    copier: Copier,
    files: Files,
    hides: Hides,
}

impl Merge {
    fn dir(&mut self, from: &Dir, to: &Dir) -> Result<(), Refused> {
        let refused = |doing| Refused::new(doing, &from.place);
        let stat = rustix::fs::fstat(from.fd.as_fd()).map_err(refused("look at it"))?;
        if facts::is_opaque(from, b".") {
            for name in tree::names(to.fd.as_fd()).map_err(refused("list what is below"))? {
                tree::remove(to.fd.as_fd(), &name).map_err(refused("remove what is below"))?;
            }
            if self.hides == Hides::Always {
                facts::set_opaque(to, b".").map_err(refused("hide what is below"))?;
            }
        }
        let mut names = tree::names(from.fd.as_fd()).map_err(refused("list it"))?;
        names.sort();
        for name in names {
            self.entry(from, to, &name)?;
        }
        put_dir(from, to, &stat)
    }

    fn entry(&mut self, from: &Dir, to: &Dir, name: &[u8]) -> Result<(), Refused> {
        let place = from.place.join(name);
        let refused = |doing| Refused::new(doing, &place);
        let Some(stat) = from.stat(name).map_err(refused("look at it"))? else { return Ok(()) };
        if tree::kind(&stat) != FileType::Directory {
            tree::remove(to.fd.as_fd(), name).map_err(refused("remove what is below"))?;
            return match self.files {
                _ if tree::is_whiteout(&stat) && self.hides == Hides::Now => Ok(()),
                _ if tree::is_whiteout(&stat) => {
                    rustix::fs::mknodat(to.fd.as_fd(), name, FileType::CharacterDevice, Mode::empty(), 0)
                        .map_err(refused("hide what is below"))
                }
                Files::Copied => self.copier.file(from, to, name, &stat),
                Files::Linked => rustix::fs::linkat(from.fd.as_fd(), name, to.fd.as_fd(), name, AtFlags::empty())
                    .map_err(refused("link it")),
            };
        }
        let below = to.stat(name).map_err(refused("look at what is below"))?;
        if below.is_some_and(|below| tree::kind(&below) != FileType::Directory) {
            tree::remove(to.fd.as_fd(), name).map_err(refused("remove what is below"))?;
        }
        match rustix::fs::mkdirat(to.fd.as_fd(), name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(refused("make it")(errno)),
        }
        let from = hidden::open(from.fd.as_fd(), name, place.clone()).map_err(refused("open it"))?;
        let to = hidden::open(to.fd.as_fd(), name, place.clone()).map_err(refused("open what is below"))?;
        self.dir(&from, &to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_testing::tree::{differences, read_tree};
    use std::process::Command;

    /// Overlayfs itself says what is right. Needs root; does nothing without.
    #[test]
    fn as_overlayfs_shows_it() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for files in [Files::Copied, Files::Linked] {
            let scratch = tempfile::tempdir().unwrap();
            let script = "
                mkdir -p low/a/b low/gone/x low/opaque/sub low/dir-to-file low/same up/a up/opaque m w plain
                echo 1 > low/a/b/kept; echo 2 > low/a/replaced; echo 3 > low/gone/x/y; echo 4 > low/opaque/old
                echo 5 > low/file-to-dir; ln low/a/replaced low/a/other; touch -d 2001-01-01 low/same low/a/b
                mknod up/gone c 0 0; echo new > up/opaque/new
                echo 22 > up/a/replaced; ln up/a/replaced up/a/linked; mkdir up/file-to-dir; echo 7 > up/dir-to-file
                ln -s b up/a/link; chmod 2770 up/a; chown 5:6 up/a; chmod 1777 up; touch -d 2002-02-02 up/a up";
            let shown = "
                mount -t overlay overlay -o lowerdir=low,upperdir=up,workdir=w m
                mkdir seen; cp -a m/. seen/; umount m; cp -a low/. plain/";
            let run = |script: &str| {
                let mut shell = Command::new("unshare");
                shell.args(["-m", "sh", "-ec", script]).current_dir(scratch.path()).status().unwrap().success()
            };
            assert!(run(script));
            let up = Tree::open(&scratch.path().join("up")).unwrap();
            facts::set_opaque(up.root(), b"opaque").unwrap();
            assert!(run(shown));
            onto(&scratch.path().join("up"), &scratch.path().join("plain"), files, Hides::Now).unwrap();
            let seen = read_tree(&scratch.path().join("seen")).unwrap();
            let plain = read_tree(&scratch.path().join("plain")).unwrap();
            assert_eq!(differences(&seen, &plain), Vec::<String>::new());

            // On nothing, and in overlayfs form, it is the layer again.
            let copy = scratch.path().join("copy");
            std::fs::create_dir(&copy).unwrap();
            onto(&scratch.path().join("up"), &copy, Files::Copied, Hides::Always).unwrap();
            let (up, copy) = (read_tree(&scratch.path().join("up")).unwrap(), Tree::open(&copy).unwrap());
            assert!(facts::is_opaque(copy.root(), b"opaque") && !facts::is_opaque(copy.root(), b"a"));
            let copied = read_tree(&scratch.path().join("copy")).unwrap();
            assert_eq!(differences(&up, &copied), Vec::<String>::new());
        }
    }
}
