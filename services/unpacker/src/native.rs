//! The native snapshotter: every snapshot is a whole tree of its own, copied from its parent. Slow and large, and works on
//! any file system.
//!
//! A layer that was unpacked without its parent is put on a copy of it: the layer's tree steps aside as `layer`, and stays
//! until the commit is recorded, as the sign that this was done.

use std::{fs, io, path::Path};

use berth_model::Status;
use berth_wire::types::Mount;

use crate::{copy, idmap::IdMap, layout, layout::Layout, merge};

/// The name of this snapshotter.
pub const NAME: &str = "native";

/// Copies a whole tree into an empty directory.
pub fn copy(from: &Path, to: &Path) -> Result<(), Status> {
    copy::tree(from, to).map_err(|refused| refused.status("copy", from, to))
}

/// The mounts of a snapshot that is not committed. `parents`: newest first.
#[must_use]
pub fn mounts(layout: &Layout, id: u64, parents: &[u64], view: bool, map: Option<&IdMap>) -> Vec<Mount> {
    let shown = parents.first().filter(|_| view).copied().unwrap_or(id);
    let mut options: Vec<String> =
        map.map(|map| vec![format!("uidmap={}", map.uid), format!("gidmap={}", map.gid)]).unwrap_or_default();
    options.extend([if view { "ro" } else { "rw" }.to_owned(), "rbind".to_owned()]);
    vec![Mount { r#type: "bind".into(), source: layout.tree(shown).display().to_string(), options }]
}

/// Puts the tree of a snapshot, in overlayfs form, on a copy of its parent's.
pub fn put_on(layout: &Layout, id: u64, chain: &[u64]) -> Result<(), Status> {
    if is_put_on(layout, id) {
        return Ok(());
    }
    let (dir, tree) = (layout.dir(id), layout.tree(id));
    let (merged, layer) = (dir.join("merged"), dir.join("layer"));
    // A crash between the two renames below.
    if !tree.exists() && layer.exists() {
        rename(&layer, &tree)?;
    }
    layout::erase(&merged)?;
    layout::make_dir(&merged, 0o755)?;
    if let Some(parent) = chain.first() {
        copy(&layout.tree(*parent), &merged)?;
    }
    merge::onto(&tree, &merged, merge::Files::Linked, merge::Hides::Now)
        .map_err(|refused| refused.status("merge", &tree, &merged))?;
    rename(&tree, &layer)?;
    rename(&merged, &tree)
}

/// Whether that was done.
#[must_use]
pub fn is_put_on(layout: &Layout, id: u64) -> bool {
    layout.dir(id).join("layer").exists() && layout.tree(id).exists()
}

/// The commit is recorded: the layer itself can go.
pub fn committed(layout: &Layout, id: u64) -> Result<(), Status> {
    layout::erase(&layout.dir(id).join("layer"))
}

/// The commit was refused: the layer is the snapshot again.
pub fn refused(layout: &Layout, id: u64) -> Result<(), Status> {
    if !is_put_on(layout, id) {
        return Ok(());
    }
    let (dir, tree) = (layout.dir(id), layout.tree(id));
    let merged = dir.join("merged");
    layout::erase(&merged)?;
    rename(&tree, &merged)?;
    rename(&dir.join("layer"), &tree)?;
    layout::erase(&merged)
}

fn rename(from: &Path, to: &Path) -> Result<(), Status> {
    let failed = |error: io::Error| Status::io("rename", from, &error);
    fs::rename(from, to).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A parent (1) and a snapshot on it (2), not yet put on it.
    fn two(root: &Path) -> Layout {
        let layout = Layout::new(root);
        for (id, name) in [(1, "low"), (2, "own")] {
            layout.make(id, |dir| layout::make_dir(&dir.join("fs"), 0o755)).unwrap();
            fs::write(layout.tree(id).join(name), name).unwrap();
        }
        layout
    }

    fn shown(layout: &Layout) -> Vec<String> {
        let entries = fs::read_dir(layout.tree(2)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn it_can_be_done_again_taken_back_and_finished() {
        let root = tempfile::tempdir().unwrap();
        let layout = two(root.path());
        for _ in 0..2 {
            put_on(&layout, 2, &[1]).unwrap();
            assert_eq!(shown(&layout), ["low", "own"]);
        }
        for _ in 0..2 {
            refused(&layout, 2).unwrap();
            assert_eq!(shown(&layout), ["own"]);
        }
        put_on(&layout, 2, &[1]).unwrap();
        committed(&layout, 2).unwrap();
        assert_eq!(shown(&layout), ["low", "own"]);
        assert_eq!(fs::read_dir(layout.dir(2)).unwrap().count(), 1);
    }

    /// A process may die after any step.
    #[test]
    fn what_a_crash_left_is_finished() {
        type Left = fn(&Path, PathBuf) -> io::Result<()>;
        let half_merged: Left = |dir, _| fs::create_dir_all(dir.join("merged/half"));
        let between: Left = |dir, tree| {
            fs::create_dir_all(dir.join("merged/low"))?;
            fs::rename(tree, dir.join("layer"))
        };
        for left in [half_merged, between] {
            let root = tempfile::tempdir().unwrap();
            let layout = two(root.path());
            left(&layout.dir(2), layout.tree(2)).unwrap();
            put_on(&layout, 2, &[1]).unwrap();
            assert_eq!(shown(&layout), ["low", "own"]);
        }
    }
}
