//! What a tree takes on its disk.

use std::{collections::HashSet, fs, io, os::unix::fs::MetadataExt as _, path::Path};

use berth_model::Status;
use berth_wire::types::Usage;

/// Counted by a walk: bytes on disk and inodes, each once. A tree may change meanwhile.
pub fn of(tree: &Path) -> Result<Usage, Status> {
    let mut seen = HashSet::new();
    let mut usage = Usage::default();
    let mut todo = vec![tree.to_owned()];
    while let Some(path) = todo.pop() {
        let facts = match fs::symlink_metadata(&path) {
            Ok(facts) => facts,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Status::io("look at", &path, &error)),
        };
        // Only what has several names can be met twice.
        if facts.is_dir() || facts.nlink() == 1 || seen.insert((facts.dev(), facts.ino())) {
            usage.inodes += 1;
            usage.size += facts.blocks() * 512;
        }
        if facts.is_dir() {
            match fs::read_dir(&path) {
                Ok(entries) => todo.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Status::io("list", &path, &error)),
            }
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_inode_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![1; 10_000]).unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        fs::create_dir(dir.path().join("c")).unwrap();
        let usage = of(dir.path()).unwrap();
        assert_eq!(usage.inodes, 3);
        assert!((10_000..40_000).contains(&usage.size), "{usage:?}");
        assert_eq!(of(&dir.path().join("gone")).unwrap(), Usage::default());
    }
}
