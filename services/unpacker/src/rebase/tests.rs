//! What is settled with the names that were noted while layers were unpacked is the same as what is settled without them, and
//! the names that are remembered afterwards are those that are there.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tar::{Builder, EntryType, Header};

use super::*;
use crate::{apply::apply_named, index::MOST, writers::Writers};

/// What an entry is, its name, where it leads, its mode and its time.
type Drawn = (u8, String, String, u32, u64);

fn place() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&["a", "b", "c", "d"][..]), 1..4).prop_map(|parts| parts.join("/"))
}

/// The entries of a layer; half of the layers have only kinds that leave nothing to look for.
fn entries() -> impl Strategy<Value = Vec<Drawn>> {
    let of = |kinds: u8| {
        let mode = prop::sample::select(&[0o755, 0o700, 0o750][..]);
        prop::collection::vec((0..kinds, place(), place(), mode, 1_u64..1000), 1..7)
    };
    prop_oneof![of(4), of(9)]
}

fn layer(entries: &[Drawn]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (kind, name, target, mode, mtime) in entries {
        let (above, base) =
            name.rsplit_once('/').map_or((String::new(), name.as_str()), |(above, base)| (format!("{above}/"), base));
        let (kind, name) = match kind {
            0 | 1 => (EntryType::Regular, name.clone()),
            2 => (EntryType::Directory, name.clone()),
            3 | 4 => (EntryType::Regular, format!("{above}.wh.{base}")),
            5 => (EntryType::Symlink, name.clone()),
            6 => (EntryType::Link, name.clone()),
            7 => (EntryType::Regular, format!("{above}.wh..wh..opq")),
            _ => (EntryType::Fifo, name.clone()),
        };
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(*mode);
        header.set_mtime(*mtime);
        match kind {
            EntryType::Symlink | EntryType::Link => archive.append_link(&mut header, &name, target).unwrap(),
            _ => archive.append_data(&mut header, &name, std::io::empty()).unwrap(),
        }
    }
    archive.into_inner().unwrap()
}

/// All that is in a tree, in words.
fn shown(tree: &Path, at: &Path, all: &mut BTreeMap<PathBuf, String>) {
    let facts = fs::symlink_metadata(at).unwrap();
    let kind = facts.file_type();
    let target = fs::read_link(at).ok();
    let opaque = kind.is_dir() && facts::is_opaque(Tree::open(at).unwrap().root(), b".");
    // Of what no layer speaks of, the time is that of the test.
    let time = if kind.is_dir() && at != tree { Some(facts.mtime()).filter(|time| *time <= 1000) } else { None };
    let text = format!("{:o} {} {:?} {opaque} {time:?} {target:?}", facts.mode(), kind.is_char_device(), facts.rdev());
    all.insert(at.strip_prefix(tree).unwrap().to_owned(), text);
    if kind.is_dir() {
        fs::read_dir(at).unwrap().for_each(|entry| shown(tree, &entry.unwrap().path(), all));
    }
}

/// Needs root; does nothing without.
#[test]
fn names_that_were_noted_change_nothing() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (kept, lost) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let stack = prop::collection::vec(entries(), 1..8);
    let done = runner.run(&stack, |layers| {
        both_ways(&layers, &kept, &lost);
        Ok(())
    });
    done.unwrap();
    assert!(kept.get() > 100 && lost.get() > 20, "{} {}", kept.get(), lost.get());
}

/// Settles a stack with names that were noted, and without.
fn both_ways(layers: &[Vec<Drawn>], kept: &Cell<usize>, lost: &Cell<usize>) {
    let (scratch, memory) = (tempfile::tempdir().unwrap(), Arc::<Memory>::default());
    let mut below = Below::with(&memory);
    let mut lowers: [Vec<PathBuf>; 2] = Default::default();
    for (number, entries) in layers.iter().enumerate() {
        let bytes = layer(entries);
        let trees = ["noted", "plain"].map(|way| scratch.path().join(format!("{way}{number}")));
        let applied = trees.each_ref().map(|tree| {
            fs::create_dir(tree).unwrap();
            apply_named(&mut &bytes[..], tree, &Writers::new(1, Some(Arc::default())), &|| false)
        });
        // Some archives make no sense, and are refused.
        let [Ok((residue, names)), Ok((same, _))] = applied else { continue };
        assert_eq!(residue, same);
        let noted = names.map(|names| memory.put_unsettled(&trees[0], names)).is_some();
        below.begin(&trees[0], true);
        let done = rebase_in(&trees[0], &lowers[0], residue, &mut below);
        let plain = rebase(&trees[1], &lowers[1], same);
        assert_eq!(done.as_ref().map_err(ToString::to_string), plain.as_ref().map_err(ToString::to_string));
        let Ok(settled) = done else { break };
        below.settled(&trees[0], settled.inodes);
        let all = trees.each_ref().map(|tree| {
            let mut all = BTreeMap::new();
            shown(tree, tree, &mut all);
            all
        });
        assert_eq!(all[0], all[1], "layer {number}");
        match memory.get(&trees[0], Identity::of(&trees[0]).unwrap()) {
            Some(Names::All(names)) => {
                let read = Index::read(Tree::open(&trees[0]).unwrap().root(), MOST).unwrap();
                assert_eq!(Some(&*names), read.as_ref(), "layer {number}");
                kept.set(kept.get() + 1);
            }
            _ => lost.set(lost.get() + usize::from(noted)),
        }
        trees.into_iter().zip(&mut lowers).for_each(|(tree, lowers)| lowers.insert(0, tree));
    }
}
