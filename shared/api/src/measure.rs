//! What a directory tree takes of its disk, counted as du(1) does: blocks, each inode once, directories too.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use berth_model::Status;
use berth_wire::types::Measure;

/// The size of the blocks that stat(2) counts.
const BLOCK: u64 = 512;

/// Measures trees; remembers files with several names, so that each counts once.
#[derive(Debug, Default)]
pub struct Measuring {
    linked: HashSet<(u64, u64)>,
}

impl Measuring {
    /// A file or directory with all below it. What is gone by the time it is looked at counts nothing. Counts inodes.
    pub fn tree(&mut self, path: &Path) -> Result<Measure, Status> {
        let mut total = Measure::default();
        let mut todo = vec![path.to_owned()];
        while let Some(path) = todo.pop() {
            if self.one(&path, &mut total)? {
                let failed = |error: &io::Error| Status::io("list", &path, error);
                let entries = match fs::read_dir(&path) {
                    Ok(entries) => entries,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(failed(&error)),
                };
                for entry in entries {
                    todo.push(entry.map_err(|error| failed(&error))?.path());
                }
            }
        }
        Ok(total)
    }

    /// The directory itself, without what is in it.
    pub fn alone(&mut self, path: &Path) -> Result<Measure, Status> {
        let mut total = Measure::default();
        self.one(path, &mut total)?;
        Ok(total)
    }

    /// Adds one inode; `true`: it is a directory.
    fn one(&mut self, path: &Path, total: &mut Measure) -> Result<bool, Status> {
        let facts = match fs::symlink_metadata(path) {
            Ok(facts) => facts,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Status::io("look at", path, &error)),
        };
        if !facts.is_dir() && facts.nlink() > 1 && !self.linked.insert((facts.dev(), facts.ino())) {
            return Ok(false);
        }
        total.count += 1;
        total.disk += facts.blocks() * BLOCK;
        if !facts.is_dir() {
            total.size += facts.len();
        }
        Ok(facts.is_dir())
    }
}

/// What is directly in a directory; nothing if it is not there.
pub fn children(path: &Path) -> Result<Vec<PathBuf>, Status> {
    let failed = |error: &io::Error| Status::io("list", path, error);
    match fs::read_dir(path) {
        Ok(entries) => entries.map(|entry| Ok(entry.map_err(|error| failed(&error))?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(&error)),
    }
}

/// The sum of two.
pub fn add(to: &mut Measure, more: &Measure) {
    to.count += more.count;
    to.size += more.size;
    to.disk += more.disk;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_count_once_and_directories_count() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/file"), vec![1; 10_000]).unwrap();
        fs::hard_link(dir.path().join("a/file"), dir.path().join("a/b/link")).unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("a/dangling")).unwrap();
        let found = Measuring::default().tree(dir.path()).unwrap();
        assert_eq!((found.count, found.size), (5, 10_000 + 7));
        let du = std::process::Command::new("du").args(["-s", "-B1"]).arg(dir.path()).output().unwrap();
        let du = String::from_utf8(du.stdout).unwrap();
        assert_eq!(du.split('\t').next(), Some(found.disk.to_string().as_str()));
        assert_eq!(Measuring::default().tree(&dir.path().join("none")).unwrap(), Measure::default());
    }
}
