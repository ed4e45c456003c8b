//! Diffs there and back: what a diff of two trees says, applied to the first, gives the second; whichever way the trees
//! are shown, and onto whatever it is applied. Most of it needs root, and does nothing without.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod trees;

use std::{
    fs,
    path::{Path, PathBuf},
};

use berth_testing::tree::{Tree, differences, read_tree};
use berth_unpacker::{
    Config,
    diff::{self, changes::Guides},
    layout::Layout,
    native,
    onto::{Made, Target},
    snapshotter::Snapshotter,
};
use berth_wire::types::Mount;
use proptest::prelude::*;
use trees::{Act, acts, play};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn mount(kind: &str, source: &Path, options: &[String]) -> Mount {
    Mount { r#type: kind.into(), source: source.display().to_string(), options: options.to_vec() }
}

fn bind(dir: &Path) -> Mount {
    mount("bind", dir, &["rw".into(), "rbind".into()])
}

fn overlay(upper: &Path, work: &Path, lowers: &[&Path]) -> Mount {
    let lower: Vec<String> = lowers.iter().map(|dir| dir.display().to_string()).collect();
    let options = [
        format!("workdir={}", work.display()),
        format!("upperdir={}", upper.display()),
        format!("lowerdir={}", lower.join(":")),
    ];
    mount("overlay", Path::new("overlay"), &options)
}

/// A place for the directories of one test.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn dir(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn layout(&self) -> Layout {
        Layout::new(&self.dir("layout"))
    }

    /// The difference of mounts, as an archive.
    fn diff(&self, lower: &[Mount], upper: &[Mount]) -> Vec<u8> {
        diff::write(lower, upper, &self.layout().scratch().unwrap(), None, Vec::new()).unwrap()
    }

    fn apply(&self, layer: &[u8], mounts: &[Mount]) {
        let snapshotters = Snapshotter::all(&Config::new(self.dir("snapshotters")));
        let layout = self.layout();
        let writers = berth_unpacker::writers::Writers::new(2, None);
        let made = Made {
            snapshotters: &snapshotters,
            layout: &layout,
            layer: "the layer",
            writers: &writers,
            cancelled: &|| false,
        };
        made.apply(&Target::of(mounts).unwrap(), layer).unwrap();
    }
}

/// A tree as a layer can say it: whole seconds, no time of the root, no sockets.
fn seen(dir: &Path) -> Tree {
    let mut tree = read_tree(dir).unwrap();
    tree.retain(|_, entry| entry.kind != "socket");
    for (path, entry) in &mut tree {
        entry.mtime.1 = 0;
        if path.as_os_str().is_empty() {
            entry.mtime.0 = 0;
        }
    }
    tree
}

fn seen_mounted(mounts: &[Mount], at: &Path) -> Tree {
    berth_mount::in_private_namespace(|| {
        berth_mount::all(mounts, at).unwrap();
        seen(at)
    })
    .unwrap()
}

#[track_caller]
fn assert_same(expected: &Tree, found: &Tree, what: &str) {
    let lines = differences(expected, found);
    assert!(lines.is_empty(), "{what}:\n{}", lines.join("\n"));
}

/// Names and kinds of the entries.
fn entries(layer: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(layer);
    let shown = |entry: tar::Entry<'_, &[u8]>| {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match entry.link_name_bytes() {
            Some(target) => format!("{path} -> {}", String::from_utf8_lossy(&target)),
            None => path,
        }
    };
    archive.entries().unwrap().map(|entry| shown(entry.unwrap())).collect()
}

fn shell(dir: &Path, script: &str) {
    let done = std::process::Command::new("sh").args(["-ec", script]).current_dir(dir).status().unwrap();
    assert!(done.success(), "{script}");
}

#[test]
fn order_and_form_are_as_documented() {
    let room = Room::new();
    let (a, b) = (room.dir("a"), room.dir("b"));
    shell(
        &a,
        "mkdir -p d/deep/er e; echo 1 > d/deep/er/x; echo 2 > gone; echo 3 > e/one; ln e/one e/two; mkdir gone-dir; echo > gone-dir/x",
    );
    native::copy(&a, &b).unwrap();
    shell(
        &b,
        "rm -r gone gone-dir; echo 9 > d/deep/er/y; ln e/two e-new; mkdir f; echo 4 > f-; echo 5 > f/in; ln -s f/in s; rm d/deep/er/x",
    );
    let layer = room.diff(&[bind(&a)], &[bind(&b)]);
    let expected = [
        "d/",
        "d/deep/",
        "d/deep/er/",
        "d/deep/er/.wh.x",
        "d/deep/er/y",
        "e-new",
        "e/",
        "e/one -> e-new",
        "e/two -> e-new",
        "f/",
        "f/in",
        "f-",
        ".wh.gone",
        ".wh.gone-dir",
        "s -> f/in",
    ];
    let mut expected = expected.map(str::to_owned).to_vec();
    // Directory by directory, names by their bytes: `e` and what is in it comes before `e-new`, `f` before `f-`.
    expected.sort_by_key(|entry| {
        let name = entry.split(" -> ").next().unwrap().trim_end_matches('/').replace(".wh.", "");
        name.split('/').map(str::to_owned).collect::<Vec<_>>()
    });
    let mut found = entries(&layer);
    // The links come with the name that has the bytes, wherever they are.
    found.retain(|entry| entry != "e/one -> e-new" && entry != "e/two -> e-new" && entry != "e/");
    expected.retain(|entry| entry != "e/one -> e-new" && entry != "e/two -> e-new" && entry != "e/");
    assert_eq!(found, expected);
    let all = entries(&layer);
    let at = |wanted: &str| all.iter().position(|entry| entry == wanted).unwrap_or_else(|| panic!("{wanted}: {all:?}"));
    assert!(at("e-new") < at("e/one -> e-new") && at("e/") < at("e/one -> e-new") && at("e/two -> e-new") < at("f/"));
}

#[test]
fn equal_trees_give_equal_bytes_and_nothing_is_later_than_asked() {
    let room = Room::new();
    let (empty, a, b) = (room.dir("empty"), room.dir("a"), room.dir("b"));
    shell(
        &a,
        "mkdir d; for n in 3 1 2; do echo $n > d/$n; done; touch -d @1000000000 d/1; touch -d @2000000000 d/2 d/3 d",
    );
    native::copy(&a, &b).unwrap();
    let write = |dir: &Path, latest| diff::between(&empty, dir, &Guides::None, latest, Vec::new()).unwrap();
    assert!(write(&a, None) == write(&b, None));
    assert!(entries(&diff::between(&a, &b, &Guides::None, None, Vec::new()).unwrap()).is_empty());
    let layer = write(&a, Some(1_500_000_000));
    let mut archive = tar::Archive::new(&layer[..]);
    let times: Vec<u64> = archive.entries().unwrap().map(|entry| entry.unwrap().header().mtime().unwrap()).collect();
    assert_eq!(times, [1_500_000_000, 1_000_000_000, 1_500_000_000, 1_500_000_000]);
}

/// Through the upper directory alone, and through both mounts entirely: the same bytes.
#[test]
fn an_overlay_is_read_by_its_upper_directory() {
    if !is_root() {
        return;
    }
    let room = Room::new();
    let (low, upper, work, at) = (room.dir("low"), room.dir("upper"), room.dir("work"), room.dir("at"));
    shell(
        &low,
        "mkdir -p d/e/f k; echo 1 > d/e/x; echo 2 > d/e/f/y; ln d/e/x k/x; echo 3 > k/z; touch -d @1000000000 k/z",
    );
    let mounts = [overlay(&upper, &work, &[&low])];
    berth_mount::in_private_namespace(|| {
        berth_mount::all(&mounts, &at).unwrap();
        shell(&at, "rm -r d/e; mkdir -p d/e/f; echo new > d/e/f/n; touch -d @1000000000 k/z; ln k/z k/zz; chmod 700 k");
    })
    .unwrap();
    let guided = room.diff(&[bind(&low)], &mounts);
    assert_eq!(
        entries(&guided),
        ["d/", "d/e/", "d/e/f/", "d/e/f/n", "d/e/f/.wh.y", "d/e/.wh.x", "k/", "k/zz", "k/z -> k/zz"],
    );
    // Two mounts say as much as one, but not which directories they are made of.
    let whole = room.diff(&[bind(&low)], &[mounts[0].clone(), bind(&at)]);
    drop(whole);
    assert_same(&seen_mounted(&mounts, &at), &applied(&room, &low, &guided), "the diff of an overlay");
}

/// What a copy of `base` is after the layer.
fn applied(room: &Room, base: &Path, layer: &[u8]) -> Tree {
    let copy = room.dir("applied");
    native::copy(base, &copy).unwrap();
    room.apply(layer, &[bind(&copy)]);
    seen(&copy)
}

fn round_trip(first: &[Act], second: &[Act]) {
    let room = Room::new();
    let (a, b) = (room.dir("a"), room.dir("b"));
    play(&a, first);
    native::copy(&a, &b).unwrap();
    play(&b, second);
    let expected = seen(&b);
    let layer = room.diff(&[bind(&a)], &[bind(&b)]);
    let said = entries(&layer).join(", ");
    assert_same(&expected, &applied(&room, &a, &layer), &format!("on a copy: {said}"));

    // Onto the upper directory of an overlay, empty or not.
    let at = room.dir("at");
    let empty = [overlay(&room.dir("upper"), &room.dir("work"), &[&a])];
    room.apply(&layer, &empty);
    assert_same(&expected, &seen_mounted(&empty, &at), &format!("on an overlay: {said}"));
    let nothing = room.dir("nothing");
    let used = [overlay(&room.dir("upper2"), &room.dir("work2"), &[&nothing, &a])];
    berth_mount::in_private_namespace(|| {
        berth_mount::all(&used, &at).unwrap();
        fs::write(at.join("used"), "x").unwrap();
    })
    .unwrap();
    room.apply(&layer, &used);
    let mut with_used = seen_mounted(&used, &at);
    with_used.remove(Path::new("used"));
    assert_same(&expected, &with_used, &format!("on a used overlay: {said}"));

    // Played on an overlay, and read by its upper directory.
    let changed = [overlay(&room.dir("upper3"), &room.dir("work3"), &[&a])];
    berth_mount::in_private_namespace(|| {
        berth_mount::all(&changed, &at).unwrap();
        play(&at, second);
    })
    .unwrap();
    let layer = room.diff(&[bind(&a)], &changed);
    let again = room.dir("again");
    native::copy(&a, &again).unwrap();
    room.apply(&layer, &[bind(&again)]);
    assert_same(&seen_mounted(&changed, &at), &seen(&again), &format!("of an overlay: {}", entries(&layer).join(", ")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn there_and_back(first in acts(24), second in acts(16)) {
        if is_root() {
            round_trip(&first, &second);
        }
    }
}
