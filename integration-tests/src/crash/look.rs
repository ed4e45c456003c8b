//! What a store shows, read with its own commands; and what its files hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use berth_model::Digest;
use berth_testing::{
    berth::Berth,
    tree::{Tree, read_tree},
    wait::{Seen, wait_for},
};
use nix::{errno::Errno, mount::umount};
use serde_json::Value;

use crate::facts::lines;

/// The views that are made to look begin with this.
const VIEW: &str = "look-";

/// A snapshot's record.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) parent: String,
    pub(super) committed: bool,
}

/// What one namespace shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub(super) images: BTreeSet<String>,
    pub(super) content: BTreeSet<String>,
    pub(super) snapshots: BTreeMap<String, Snapshot>,
}

/// Asks for everything.
pub(super) fn shown(berth: &Berth, namespace: &str) -> Result<Shown> {
    let list = |what: &str| -> Result<BTreeSet<String>> {
        Ok(lines(&berth.ok(["-n", namespace, what, "ls", "--quiet"])?).into_iter().collect())
    };
    let text = berth.ok(["-n", namespace, "snapshots", "ls", "--json"])?;
    let mut snapshots = BTreeMap::new();
    for line in lines(&text) {
        let about: Value = serde_json::from_str(&line)?;
        let word = |field: &str| about.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        snapshots.insert(word("key"), Snapshot { parent: word("parent"), committed: word("kind") == "committed" });
    }
    Ok(Shown { images: list("images")?, content: list("content")?, snapshots })
}

/// The blobs there are files of; an error names a file that is not what its name says.
pub(super) fn blob_files(root: &Path) -> Result<BTreeSet<String>> {
    let directory = root.join("content/blobs/sha256");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        let digest = Digest::of(&fs::read(&path)?);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        ensure!(digest.hex() == name, "blob {name} has the bytes of {digest}");
        found.insert(digest.to_string());
    }
    Ok(found)
}

/// What a committed snapshot shows when it is mounted.
pub(super) fn snapshot(berth: &Berth, namespace: &str, name: &str) -> Result<Tree> {
    let directory = tempfile::Builder::new().prefix("look").tempdir_in(berth.scratch())?;
    let (shown, key) = (directory.path().to_str().context("a plain path")?, format!("{VIEW}{name}"));
    // A record without its tree is something to tell, not the end of the test.
    let viewed = berth.run(["-n", namespace, "snapshots", "view", "--target", shown, &key, name])?;
    ensure!(viewed.code == 0, "{}", viewed.stderr);
    let command = viewed.stdout;
    let done = Command::new("sh").args(["-ec", &command]).output()?;
    ensure!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    let tree = read_tree(directory.path());
    // A child that another thread is just starting may hold our files open until its exec.
    wait_for("an unmount", Duration::from_secs(5), || match umount(directory.path()) {
        Err(Errno::EBUSY) => Seen::NotYet(Errno::EBUSY),
        done => Seen::Yes(done),
    })?;
    berth.ok(["-n", namespace, "snapshots", "rm", &key])?;
    let mut tree = tree?;
    if let Some(root) = tree.get_mut(Path::new("")) {
        // No layer says when its root was changed.
        root.mtime = (0, 0);
    }
    Ok(tree)
}

/// What the events of a namespace add up to.
pub(super) fn told(berth: &Berth, namespace: &str) -> Result<Shown> {
    let mut told = Shown::default();
    let mut last = 0;
    for line in lines(&berth.ok(["events", "--since", "0", "--until-now"])?) {
        let event: Value = serde_json::from_str(&line)?;
        let sequence = event.get("sequence").and_then(Value::as_u64).unwrap_or_default();
        ensure!(sequence == last + 1, "event {sequence} follows event {last}");
        last = sequence;
        if event.get("namespace").and_then(Value::as_str) != Some(namespace) {
            continue;
        }
        let word = |field: &str| {
            let value = event.pointer(&format!("/event/{field}")).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        match event.get("topic").and_then(Value::as_str).unwrap_or_default() {
            "/images/create" => ensure!(told.images.insert(word("name")), "created twice: {line}"),
            "/images/update" => ensure!(told.images.contains(&word("name")), "updated, but not there: {line}"),
            "/images/delete" => ensure!(told.images.remove(&word("name")), "deleted, but not there: {line}"),
            "/content/create" => ensure!(told.content.insert(word("digest")), "created twice: {line}"),
            "/content/delete" => ensure!(told.content.remove(&word("digest")), "deleted, but not there: {line}"),
            "/snapshot/prepare" => {
                let made = Snapshot { parent: word("parent"), committed: false };
                ensure!(told.snapshots.insert(word("key"), made).is_none(), "made twice: {line}");
            }
            "/snapshot/commit" => {
                let active = told.snapshots.remove(&word("key"));
                let active = active.with_context(|| format!("committed, but not there: {line}"))?;
                let committed = Snapshot { committed: true, ..active };
                ensure!(told.snapshots.insert(word("name"), committed).is_none(), "committed twice: {line}");
            }
            // As with containerd, nobody is told when a view is made.
            "/snapshot/remove" if word("key").starts_with(VIEW) => {}
            "/snapshot/remove" => {
                ensure!(told.snapshots.remove(&word("key")).is_some(), "removed, but not there: {line}");
            }
            _ => {}
        }
    }
    Ok(told)
}
