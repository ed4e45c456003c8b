//! Trees of any shape, made by a list of acts that may fail.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, lchown, symlink},
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

/// One thing done to a tree.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Write(PathBuf, String),
    MakeDir(PathBuf),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    Symlink(PathBuf, String),
    Link(PathBuf, PathBuf),
    Node(PathBuf, bool),
    Mode(PathBuf, u32),
    Owner(PathBuf, u32),
    Attribute(PathBuf, String),
    Time(PathBuf, i64),
}

fn path() -> impl Strategy<Value = PathBuf> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "a-", ".x", "ü"]), 1..4)
        .prop_map(|parts| parts.iter().collect())
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (path(), "[a-z]{0,9}").prop_map(|(path, text)| Act::Write(path, text)),
        4 => path().prop_map(Act::MakeDir),
        2 => path().prop_map(Act::Remove),
        1 => (path(), path()).prop_map(|(from, to)| Act::Rename(from, to)),
        1 => (path(), "[a-c./]{1,5}").prop_map(|(path, target)| Act::Symlink(path, target)),
        2 => (path(), path()).prop_map(|(from, to)| Act::Link(from, to)),
        1 => (path(), any::<bool>()).prop_map(|(path, device)| Act::Node(path, device)),
        1 => (path(), 0_u32..0o7777).prop_map(|(path, mode)| Act::Mode(path, mode)),
        1 => (path(), 0_u32..3).prop_map(|(path, id)| Act::Owner(path, id)),
        1 => (path(), "[a-z]{0,4}").prop_map(|(path, value)| Act::Attribute(path, value)),
        1 => (path(), 0_i64..2_000_000_000).prop_map(|(path, time)| Act::Time(path, time)),
    ]
}

/// Up to so many acts.
pub(crate) fn acts(most: usize) -> impl Strategy<Value = Vec<Act>> {
    prop::collection::vec(act(), 0..most)
}

/// Does them all below a directory, as far as they can be done.
pub(crate) fn play(root: &Path, acts: &[Act]) {
    for act in acts {
        // What cannot be done is not done, the same way each time.
        let _done_or_not = one(root, act);
    }
}

fn one(root: &Path, act: &Act) -> std::io::Result<()> {
    let at = |path: &PathBuf| root.join(path);
    // Through links one would leave the tree.
    let real = |path: &PathBuf| path.ancestors().all(|part| !at(&part.to_owned()).is_symlink());
    match act {
        Act::Write(path, text) if real(path) && !is_node(&at(path)) => fs::write(at(path), text),
        Act::MakeDir(path) if real(path) => fs::create_dir_all(at(path)),
        Act::Remove(path) if real(path) => match fs::symlink_metadata(at(path))?.is_dir() {
            true => fs::remove_dir_all(at(path)),
            false => fs::remove_file(at(path)),
        },
        // Directories of a lower layer cannot be renamed in an overlay.
        Act::Rename(from, to) if real(from) && real(to) && !at(from).is_dir() => fs::rename(at(from), at(to)),
        Act::Symlink(path, target) if real(path) => symlink(target, at(path)),
        Act::Link(from, to) if real(from) && real(to) => fs::hard_link(at(from), at(to)),
        Act::Node(path, device) if real(path) => {
            let (kind, number) =
                if *device { (FileType::CharacterDevice, rustix::fs::makedev(1, 3)) } else { (FileType::Fifo, 0) };
            Ok(rustix::fs::mknodat(CWD, at(path), kind, Mode::from_raw_mode(0o640), number)?)
        }
        Act::Mode(path, mode) if real(path) => fs::set_permissions(at(path), fs::Permissions::from_mode(*mode)),
        Act::Owner(path, id) if real(path) => chown(at(path), Some(*id), Some(*id)),
        Act::Owner(path, id) => lchown(at(path), Some(*id), Some(*id)),
        Act::Attribute(path, value) if real(path) => {
            Ok(rustix::fs::lsetxattr(at(path), "trusted.berth.test", value.as_bytes(), XattrFlags::empty())?)
        }
        Act::Time(path, time) if real(path) && !is_node(&at(path)) => {
            let file = fs::File::open(at(path))?;
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(time.unsigned_abs()))
        }
        _ => Ok(()),
    }
}

fn is_node(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|facts| !facts.is_file() && !facts.is_dir())
}
