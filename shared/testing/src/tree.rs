//! What a directory tree holds, entry by entry, so that two trees can be compared.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fmt::Write as _,
    fs::{self, File, Metadata},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Everything about an entry that an image determines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `file`, `dir`, `symlink`, `char`, `block`, `fifo` or `socket`.
    pub kind: &'static str,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Of files, in bytes.
    pub size: u64,
    /// Of files: sha256 of the bytes.
    pub content: Option<String>,
    /// Of symlinks.
    pub target: Option<PathBuf>,
    /// Major and minor number of devices.
    pub device: Option<(u32, u32)>,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Extended attributes, without those that the file system or the kernel's policy adds.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// The first name of the same inode, for an entry that has several names.
    pub same_as: Option<PathBuf>,
}

/// The entries of a tree by their path below its root; the root is the empty path.
pub type Tree = BTreeMap<PathBuf, Entry>;

/// Reads a tree, without following symlinks and without crossing into other mounts below it.
pub fn read_tree(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut inodes = HashMap::new();
    let device = fs::symlink_metadata(root).with_context(|| format!("read {}", root.display()))?.dev();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let full = root.join(&path);
        let about = fs::symlink_metadata(&full).with_context(|| format!("read {}", full.display()))?;
        if about.is_dir() && about.dev() == device {
            for child in fs::read_dir(&full).with_context(|| format!("list {}", full.display()))? {
                waiting.push(path.join(child?.file_name()));
            }
        }
        let entry = read_entry(&full, &about).with_context(|| format!("read {}", full.display()))?;
        if !about.is_dir() && about.nlink() > 1 {
            let inode = (about.dev(), about.ino());
            inodes.entry(inode).or_insert_with(Vec::new).push(path.clone());
        }
        tree.insert(path, entry);
    }
    for mut names in inodes.into_values() {
        names.sort();
        let Some((first, others)) = names.split_first() else {
            continue;
        };
        for other in others {
            if let Some(entry) = tree.get_mut(other) {
                entry.same_as = Some(first.clone());
            }
        }
    }
    Ok(tree)
}

fn read_entry(path: &Path, about: &Metadata) -> Result<Entry> {
    let kind = about.file_type();
    let (word, device) = if kind.is_dir() {
        ("dir", None)
    } else if kind.is_symlink() {
        ("symlink", None)
    } else if kind.is_char_device() {
        ("char", Some(about.rdev()))
    } else if kind.is_block_device() {
        ("block", Some(about.rdev()))
    } else if kind.is_fifo() {
        ("fifo", None)
    } else if kind.is_socket() {
        ("socket", None)
    } else {
        ("file", None)
    };
    Ok(Entry {
        kind: word,
        mode: about.mode() & 0o7777,
        uid: about.uid(),
        gid: about.gid(),
        size: if kind.is_file() { about.len() } else { 0 },
        content: if kind.is_file() { Some(hash(path)?) } else { None },
        target: if kind.is_symlink() { Some(fs::read_link(path)?) } else { None },
        device: device.map(|number| (rustix::fs::major(number), rustix::fs::minor(number))),
        mtime: (about.mtime(), about.mtime_nsec()),
        xattrs: read_xattrs(path)?,
        same_as: None,
    })
}

/// The sha256 of a file, in hexadecimal.
pub fn hash(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    io::copy(&mut file, &mut Hashing(&mut hasher)).with_context(|| format!("read {}", path.display()))?;
    Ok(hex::encode(hasher.finalize()))
}

struct Hashing<'a>(&'a mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_xattrs(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut names = vec![0; 64 * 1024];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error).context("list its extended attributes"),
    };
    names.truncate(length);
    let mut found = BTreeMap::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = OsString::from(std::ffi::OsStr::from_bytes(name));
        let shown = name.to_string_lossy().into_owned();
        if shown.starts_with("trusted.overlay.") || shown == "security.selinux" {
            continue;
        }
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::lgetxattr(path, name.as_os_str(), &mut value)
            .with_context(|| format!("read the extended attribute {shown}"))?;
        value.truncate(length);
        found.insert(shown, value);
    }
    Ok(found)
}

/// What differs, one line each, at most 40; empty if the trees are equal.
#[must_use]
pub fn differences(expected: &Tree, found: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, entry) in expected {
        match found.get(path) {
            None => lines.push(format!("/{} ({}) is missing", path.display(), entry.kind)),
            Some(other) if other != entry => {
                lines.push(format!("/{}:{}", path.display(), fields(entry, other)));
            }
            Some(_equal) => {}
        }
    }
    for (path, entry) in found {
        if !expected.contains_key(path) {
            lines.push(format!("/{} ({}) is too much", path.display(), entry.kind));
        }
    }
    let all = lines.len();
    if all > 40 {
        lines.truncate(40);
        lines.push(format!("and {} more", all - 40));
    }
    lines
}

fn fields(expected: &Entry, found: &Entry) -> String {
    let mut text = String::new();
    let mut field = |name: &str, expected: String, found: String| {
        if expected != found {
            let _to_a_string = write!(text, " {name} should be {expected} and is {found};");
        }
    };
    field("kind", expected.kind.to_owned(), found.kind.to_owned());
    field("mode", format!("{:o}", expected.mode), format!("{:o}", found.mode));
    field("owner", expected.uid.to_string(), found.uid.to_string());
    field("group", expected.gid.to_string(), found.gid.to_string());
    field("size", expected.size.to_string(), found.size.to_string());
    field("content", format!("{:?}", expected.content), format!("{:?}", found.content));
    field("target", format!("{:?}", expected.target), format!("{:?}", found.target));
    field("device", format!("{:?}", expected.device), format!("{:?}", found.device));
    field("mtime", format!("{:?}", expected.mtime), format!("{:?}", found.mtime));
    field("xattrs", format!("{:?}", expected.xattrs), format!("{:?}", found.xattrs));
    field("inode", format!("{:?}", expected.same_as), format!("{:?}", found.same_as));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_equals_itself_and_a_change_is_named() -> Result<()> {
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("a"), b"one")?;
        fs::hard_link(directory.path().join("a"), directory.path().join("b"))?;
        fs::create_dir(directory.path().join("d"))?;
        let before = read_tree(directory.path())?;
        assert_eq!(differences(&before, &read_tree(directory.path())?), Vec::<String>::new());

        fs::write(directory.path().join("a"), b"other")?;
        fs::remove_dir(directory.path().join("d"))?;
        let lines = differences(&before, &read_tree(directory.path())?);
        let text = lines.join("\n");
        assert!(text.contains("/a: size should be 3 and is 5"), "{text}");
        assert!(text.contains("/d (dir) is missing"), "{text}");
        Ok(())
    }
}
