//! Layers that try to leave their directory, ask for what cannot be, or are no archive. Nothing outside changes; what is
//! refused leaves nothing, and names the entry.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use berth_model::{Code, Status};
use berth_testing::tree::{Tree, differences, read_tree};
use tar::EntryType;

use crate::{
    archive::{Item, archive},
    kit::Home,
};

/// A directory that no layer may reach.
struct Outside(tempfile::TempDir);

impl Outside {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), b"secret").unwrap();
        fs::create_dir(dir.path().join("inner")).unwrap();
        fs::write(dir.path().join("inner/file"), b"inner").unwrap();
        Self(dir)
    }

    fn absolute(&self, below: &str) -> String {
        self.0.path().join(below).display().to_string()
    }

    fn by_dots(&self, below: &str) -> String {
        format!("{}{}", "../".repeat(40), self.absolute(below).trim_start_matches('/'))
    }
}

/// Unpacks an attack over an honest layer. Whatever becomes of it, nothing outside is made, changed or linked to.
async fn attack(outside: &Outside, attack: &[u8]) -> Result<Tree, Status> {
    let before = read_tree(outside.0.path()).unwrap();
    let home = Home::new().await;
    let honest = archive(&[Item::dir("etc"), Item::file("etc/motd", "hello")]);
    let layers = [home.put(&honest, &honest), home.put(attack, attack)];
    let done = home.stack(&layers).await;
    let different = differences(&before, &read_tree(outside.0.path()).unwrap());
    assert!(different.is_empty(), "OUTSIDE CHANGED: {}", different.join("\n"));
    for file in ["secret", "inner/file"] {
        assert_eq!(fs::metadata(outside.0.path().join(file)).unwrap().nlink(), 1, "LINKED TO FROM OUTSIDE: {file}");
    }
    match done {
        Ok(name) => Ok(home.seen(&name).await),
        Err(status) => {
            let (records, dirs) = home.left().await;
            // The honest layer is unpacked, and waits for a pull that commits it; so does one that only its commit refuses.
            assert_eq!(records.len(), dirs.len(), "{records:?} {dirs:?} after {status}");
            assert!(records.iter().all(|key| key.starts_with("extract-")), "{records:?} after {status}");
            Err(status)
        }
    }
}

/// Trying again ends no better.
fn is_verdict(status: &Status) -> bool {
    matches!(status.code, Code::InvalidArgument | Code::FailedPrecondition | Code::DataLoss)
}

async fn refused(outside: &Outside, items: &[Item], words: &str) {
    let status = attack(outside, &archive(items)).await.expect_err(words);
    assert!(is_verdict(&status), "{:?} {status}", status.code);
    assert!(status.message.contains(words), "{words:?} in {status}");
}

/// What honest layers do too means a place below the image's own root; `made` is there then.
async fn contained(outside: &Outside, items: &[Item], made: Option<&str>) {
    let tree = attack(outside, &archive(items)).await.unwrap();
    assert!(tree.contains_key(Path::new("etc/motd")));
    if let Some(made) = made {
        let inside = outside.absolute(made);
        assert!(tree.contains_key(Path::new(inside.trim_start_matches('/'))), "{inside} is not there");
    }
}

#[tokio::test]
async fn absolute_names_are_below_the_root() {
    let outside = Outside::new();
    contained(&outside, &[Item::file(&outside.absolute("made"), "x")], Some("made")).await;
    contained(&outside, &[Item::file(&format!("//./{}", outside.absolute("made")), "x")], Some("made")).await;
}

#[tokio::test]
async fn dots_lead_nowhere() {
    let outside = Outside::new();
    refused(&outside, &[Item::file(&outside.by_dots("made"), "x")], "../").await;
    refused(&outside, &[Item::dir("d"), Item::file(&format!("d/{}", outside.by_dots("made")), "x")], "../").await;
    refused(&outside, &[Item::dir("..")], "..").await;
    refused(&outside, &[Item::file(&outside.by_dots("inner/.wh.file"), "")], ".wh.").await;
    refused(&outside, &[Item::file("etc/.wh...", "")], ".wh...").await;
    // Up and down again, inside.
    contained(&outside, &[Item::dir("d"), Item::file("d/../e/../f", "x")], None).await;
}

#[tokio::test]
async fn a_way_through_a_symlink_stays_inside() {
    let outside = Outside::new();
    for target in [outside.absolute(""), outside.by_dots("")] {
        let link = Item::symlink("way-out", &target);
        contained(&outside, &[link.clone(), Item::file("way-out/made", "x")], Some("made")).await;
        contained(&outside, &[link.clone(), Item::dir("way-out/inner/made")], Some("inner/made")).await;
        contained(&outside, &[link.clone(), Item::whiteout("way-out/secret")], None).await;
        contained(&outside, &[link.clone(), Item::opaque("way-out/inner")], None).await;
        contained(&outside, &[link, Item::fifo("way-out/secret")], Some("secret")).await;
    }
}

#[tokio::test]
async fn a_parent_replaced_by_a_symlink_leads_nowhere() {
    let outside = Outside::new();
    let replaced = [
        Item::dir("dir"),
        Item::file("dir/fine", "x"),
        Item::symlink("dir", &outside.absolute("")),
        Item::file("dir/made", "x"),
    ];
    contained(&outside, &replaced, Some("made")).await;
    let twice = [
        Item::symlink("dir", &outside.absolute("inner")),
        Item::dir("dir/below"),
        Item::symlink("dir/below", &outside.absolute("")),
        Item::file("dir/below/made", "x"),
    ];
    contained(&outside, &twice, Some("made")).await;
}

#[tokio::test]
async fn symlinks_in_circles_end() {
    let outside = Outside::new();
    let circle = [Item::symlink("a", "b"), Item::symlink("b", "a"), Item::file("a/made", "x")];
    refused(&outside, &circle, "a/made").await;
    refused(&outside, &[Item::symlink("self", "self"), Item::file("self/x/y", "x")], "self/x/y").await;
}

#[tokio::test]
async fn hard_links_take_nothing_from_outside() {
    let outside = Outside::new();
    let secret = outside.absolute("secret");
    refused(&outside, &[Item::hard_link("stolen", &secret)], "stolen").await;
    refused(&outside, &[Item::hard_link("stolen", &outside.by_dots("secret")), Item::file("stolen", "x")], "stolen")
        .await;
    let link = Item::symlink("way-out", &outside.absolute(""));
    refused(&outside, &[link, Item::hard_link("stolen", "way-out/secret")], "stolen").await;
    refused(&outside, &[Item::dir("d"), Item::hard_link("e", "d")], "hard link").await;
    refused(&outside, &[Item::hard_link("e", "/")], "hard link").await;
    // To a symlink: the link itself, and not what it names.
    let tree = attack(&outside, &archive(&[Item::symlink("s", &secret), Item::hard_link("t", "s")])).await.unwrap();
    assert_eq!(tree[Path::new("t")].kind, "symlink");
}

#[tokio::test]
async fn devices_are_made_as_they_are_and_not_opened() {
    let outside = Outside::new();
    let devices = [
        Item::device(EntryType::Char, "dev/null", 1, 3).mode(0o666),
        Item::device(EntryType::Block, "dev/disk", 8, 1),
        Item::fifo("dev/pipe"),
    ];
    let tree = attack(&outside, &archive(&devices)).await.unwrap();
    let found = |path: &str| (tree[Path::new(path)].kind, tree[Path::new(path)].device);
    assert_eq!(found("dev/null"), ("char", Some((1, 3))));
    assert_eq!(found("dev/disk"), ("block", Some((8, 1))));
    assert_eq!(found("dev/pipe").0, "fifo");
    // A file over a device or a pipe replaces it: opening it would write to the disk, or wait for ever.
    let over = [
        Item::device(EntryType::Block, "disk", 8, 1),
        Item::fifo("pipe"),
        Item::file("disk", "x"),
        Item::file("pipe", "x"),
    ];
    let tree = attack(&outside, &archive(&over)).await.unwrap();
    assert_eq!([tree[Path::new("disk")].kind, tree[Path::new("pipe")].kind], ["file", "file"]);
    // What overlayfs takes for a whiteout hides, and can do no worse.
    let fake = [Item::device(EntryType::Char, "etc/motd", 0, 0)];
    assert!(!attack(&outside, &archive(&fake)).await.unwrap().contains_key(Path::new("etc/motd")));
}

#[tokio::test]
async fn attributes_of_overlayfs_are_dropped() {
    let outside = Outside::new();
    let redirect = Item::dir("moved")
        .pax("SCHILY.xattr.trusted.overlay.redirect", *b"/etc")
        .pax("SCHILY.xattr.trusted.overlay.opaque", *b"y");
    let tree = attack(&outside, &archive(&[redirect])).await.unwrap();
    assert!(!tree.contains_key(Path::new("moved/motd")));
    let hide = Item::dir("etc").pax("SCHILY.xattr.trusted.overlay.opaque", *b"y");
    let tree = attack(&outside, &archive(&[hide])).await.unwrap();
    assert!(tree.contains_key(Path::new("etc/motd")), "only an opaque marker hides");
}

#[tokio::test]
async fn extended_headers_have_a_bound() {
    let outside = Outside::new();
    let long = "n".repeat(200);
    let deep = vec![long.as_str(); 15].join("/");
    assert!(deep.len() > 3000);
    contained(&outside, &[Item::file(&deep, "x")], None).await;
    let huge = Item::file("f", "x").pax("comment", vec![b'x'; 64 << 20]);
    refused(&outside, &[huge], "").await;
    let name = Item::file("f", "x").pax("path", vec![b'n'; 300]);
    refused(&outside, &[name], "nnnn").await;
    for (key, value) in [("size", "many"), ("size", "-1"), ("size", "99999999999999999999"), ("mtime", "noon")] {
        let wrong = Item::file("f", "x").pax(key, value);
        let done = attack(&outside, &archive(&[wrong])).await;
        assert!(done.is_err() || key == "mtime", "{key}={value}");
    }
    let zero = Item::file("f", "x").pax("path", *b"a\0b");
    refused(&outside, &[zero], "zero").await;
}

#[tokio::test]
async fn what_is_cut_off_is_refused() {
    let outside = Outside::new();
    let whole = archive(&[Item::file("first", vec![1; 3000]), Item::file("second", vec![2; 3000])]);
    // In the middle of the first file, of the second header, of the second file.
    for cut in [1000, 512 + 3072 + 100, whole.len() - 1024 - 1000] {
        let status = attack(&outside, &whole[..cut]).await.expect_err("cut");
        assert!(is_verdict(&status), "{cut}: {status}");
    }
    // Without the blocks that end it, as some tools write it; without the padding before them.
    for cut in [1024, 1030] {
        let tree = attack(&outside, &whole[..whole.len() - cut]).await.unwrap();
        assert_eq!(tree[Path::new("second")].size, 3000);
    }
}

/// The diff id is of all bytes: what follows the archive's end is read to its end, and makes nothing.
#[tokio::test]
async fn what_follows_the_end_is_hashed_and_not_unpacked() {
    let outside = Outside::new();
    let mut bytes = archive(&[Item::file("first", "x")]);
    bytes.extend_from_slice(&archive(&[Item::file("second", "x")]));
    bytes.extend_from_slice(&[0x5a; 300_001]);
    let tree = attack(&outside, &bytes).await.unwrap();
    assert!(tree.contains_key(Path::new("first")) && !tree.contains_key(Path::new("second")));
}

#[tokio::test]
async fn what_is_no_archive_is_refused() {
    let outside = Outside::new();
    let mut flipped = archive(&[Item::file("first", "x")]);
    flipped[5] ^= 1;
    for bytes in [b"this is a text and no layer ".repeat(1000), flipped] {
        let status = attack(&outside, &bytes).await.expect_err("no archive");
        assert!(is_verdict(&status), "{:?} {status}", status.code);
    }
}
