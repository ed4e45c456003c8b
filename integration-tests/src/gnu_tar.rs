//! Another independent opinion on what layers do to a tree: GNU tar extracts them one over the other, and what a layer
//! removes (image-spec, `layer.md#applying-changesets`) is removed here, before.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::{self, File, FileTimes},
    io::Write as _,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use anyhow::{Context as _, Result, ensure};
use berth_testing::tree::{Tree, read_tree};

/// Applies uncompressed layers, lowest first, to an empty directory, and reads the tree.
pub fn extracted_by_gnu_tar<'a>(layers: impl IntoIterator<Item = &'a [u8]>, directory: &Path) -> Result<Tree> {
    fs::create_dir_all(directory)?;
    for layer in layers {
        apply_by_gnu_tar(layer, directory)?;
    }
    read_tree(directory)
}

/// Applies one uncompressed layer to what those below it have left in a directory.
pub fn apply_by_gnu_tar(layer: &[u8], root: &Path) -> Result<()> {
    let entries = list(layer)?;
    let before = directory_times(root)?;
    for entry in &entries {
        make_way(entry, root)?;
    }
    extract(layer, root)?;
    // A directory that is no entry of the layer keeps its time, whatever happened inside it.
    let listed: HashSet<PathBuf> = entries.iter().map(|entry| root.join(&entry.path)).collect();
    for (path, modified) in before {
        let kept = fs::symlink_metadata(&path).is_ok_and(|about| about.is_dir());
        if kept && !listed.contains(&path) {
            File::open(&path)?.set_times(FileTimes::new().set_modified(modified))?;
        }
    }
    Ok(())
}

/// Removes what the entry says is gone, or what it takes the place of.
fn make_way(entry: &Listed, root: &Path) -> Result<()> {
    let full = root.join(&entry.path);
    let name = entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let parent = full.parent().unwrap_or(root);
    if name == ".wh..wh..opq" {
        if fs::symlink_metadata(parent).is_ok_and(|about| about.is_dir()) {
            for child in fs::read_dir(parent)? {
                remove(&child?.path())?;
            }
        }
        return Ok(());
    }
    if let Some(removed) = name.strip_prefix(".wh.") {
        return remove(&parent.join(removed));
    }
    match fs::symlink_metadata(&full) {
        Ok(about) if !(about.is_dir() && entry.is_directory) => remove(&full),
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> Result<()> {
    let Ok(about) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if about.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
        .with_context(|| format!("remove {}", path.display()))
}

fn directory_times(root: &Path) -> Result<Vec<(PathBuf, SystemTime)>> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        found.push((path.clone(), fs::symlink_metadata(&path)?.modified()?));
        for child in fs::read_dir(&path)? {
            let child = child?;
            if child.file_type()?.is_dir() {
                waiting.push(child.path());
            }
        }
    }
    Ok(found)
}

struct Listed {
    path: PathBuf,
    is_directory: bool,
}

fn list(layer: &[u8]) -> Result<Vec<Listed>> {
    let text = tar(layer, &["--list", "--verbose", "--numeric-owner", "--quoting-style=c"])?;
    text.lines()
        .map(|line| {
            let (_, quoted) = line.split_once('"').with_context(|| format!("no name in {line}"))?;
            Ok(Listed { path: Path::new(&unquote(quoted)).components().collect(), is_directory: line.starts_with('d') })
        })
        .collect()
}

/// Reads up to the closing quote; escapes as in C.
fn unquote(text: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = text.bytes().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => break,
            b'\\' => match rest.next().unwrap_or(b'\\') {
                b'n' => bytes.push(b'\n'),
                b't' => bytes.push(b'\t'),
                digit @ b'0'..=b'7' => {
                    let mut value = u32::from(digit - b'0');
                    while let Some(next @ b'0'..=b'7') = rest.peek().copied() {
                        value = value * 8 + u32::from(next - b'0');
                        rest.next();
                    }
                    bytes.push(u8::try_from(value).unwrap_or(b'?'));
                }
                other => bytes.push(other),
            },
            other => bytes.push(other),
        }
    }
    OsString::from_vec(bytes)
}

fn extract(layer: &[u8], root: &Path) -> Result<()> {
    let root = root.to_str().context("a directory with a plain name")?;
    tar(
        layer,
        &[
            "--extract",
            "--directory",
            root,
            "--absolute-names",
            "--numeric-owner",
            "--same-owner",
            "--same-permissions",
            "--delay-directory-restore",
            "--xattrs",
            "--xattrs-include=*",
            "--exclude=.wh.*",
        ],
    )?;
    Ok(())
}

fn tar(layer: &[u8], args: &[&str]) -> Result<String> {
    let mut child = Command::new("tar")
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("run tar")?;
    let mut input = child.stdin.take().context("tar takes input")?;
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(move || input.write_all(layer));
        let output = child.wait_with_output();
        (writer.join(), output)
    });
    let output = written.1?;
    ensure!(output.status.success(), "tar {args:?} failed: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
