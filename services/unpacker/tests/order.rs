//! Files are made by several threads; what depends on their order comes out as if they were made one after the other.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use berth_unpacker::{ApplyError, apply::apply, residue::Residue, writers::Writers};
use tar::{Builder, EntryType, Header};

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o640 });
    header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
    header.set_gid(u64::from(rustix::process::getegid().as_raw()));
    header.set_mtime(1_000_000_000);
    header
}

fn file(archive: &mut Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    archive.append_data(&mut header(EntryType::Regular, bytes.len() as u64), name, bytes).unwrap();
}

fn dir(archive: &mut Builder<Vec<u8>>, name: &str) {
    archive.append_data(&mut header(EntryType::Directory, 0), name, &[][..]).unwrap();
}

fn link(archive: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, target: &str) {
    archive.append_link(&mut header(kind, 0), name, target).unwrap();
}

fn applied(archive: Builder<Vec<u8>>, upper: &Path) -> Result<Residue, ApplyError> {
    let bytes = archive.into_inner().unwrap();
    apply(&mut &bytes[..], upper, &Writers::new(3, Some(std::sync::Arc::default())), &|| false)
}

#[test]
fn many_files_in_many_directories() {
    let (upper, mut archive) = (tempfile::tempdir().unwrap(), Builder::new(Vec::new()));
    for d in 0..20 {
        dir(&mut archive, &format!("d{d}"));
        for f in 0..60 {
            file(&mut archive, &format!("d{d}/f{f}"), format!("{d}/{f}").repeat(f * f).as_bytes());
        }
    }
    file(&mut archive, "large", &vec![7; 20 << 20]);
    let residue = applied(archive, upper.path()).unwrap();
    assert_eq!(residue.inodes, 20 * 61 + 1);
    assert_eq!(residue.times.len(), 20);
    for d in 0..20 {
        let path = upper.path().join(format!("d{d}"));
        assert_eq!(fs::metadata(&path).unwrap().mtime(), 1_000_000_000);
        for f in 0..60 {
            let path = path.join(format!("f{f}"));
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{d}/{f}").repeat(f * f));
            let facts = fs::metadata(&path).unwrap();
            assert_eq!((facts.mode() & 0o7777, facts.mtime()), (0o640, 1_000_000_000));
        }
    }
    assert_eq!(fs::read(upper.path().join("large")).unwrap(), vec![7; 20 << 20]);
}

#[test]
fn the_last_of_equal_names_stays() {
    let (upper, mut archive) = (tempfile::tempdir().unwrap(), Builder::new(Vec::new()));
    for round in 0..50 {
        file(&mut archive, "same", format!("round {round}").as_bytes());
        // A directory in the place of one whose files may still be under way, and the other way round.
        dir(&mut archive, "turns");
        for f in 0..20 {
            file(&mut archive, &format!("turns/f{f}"), b"x");
        }
        file(&mut archive, "turns", b"a file now");
        link(&mut archive, EntryType::Symlink, "link", "same");
        file(&mut archive, "link", b"a file");
    }
    let residue = applied(archive, upper.path()).unwrap();
    assert_eq!(fs::read_to_string(upper.path().join("same")).unwrap(), "round 49");
    assert_eq!(fs::read_to_string(upper.path().join("turns")).unwrap(), "a file now");
    assert!(fs::symlink_metadata(upper.path().join("link")).unwrap().is_file());
    assert_eq!(residue.times, [], "no time is left of a directory that is gone");
}

#[test]
fn links_find_files_that_were_just_asked_for() {
    let (upper, mut archive) = (tempfile::tempdir().unwrap(), Builder::new(Vec::new()));
    for f in 0..100 {
        file(&mut archive, &format!("f{f}"), b"content");
        link(&mut archive, EntryType::Link, &format!("l{f}"), &format!("f{f}"));
    }
    link(&mut archive, EntryType::Link, "below", "of/a/lower/layer");
    let residue = applied(archive, upper.path()).unwrap();
    assert_eq!(residue.links.len(), 1);
    for f in 0..100 {
        let facts = |name: &str| fs::metadata(upper.path().join(format!("{name}{f}"))).unwrap();
        assert_eq!((facts("f").ino(), facts("f").nlink()), (facts("l").ino(), 2));
    }
}

#[test]
fn nothing_goes_below_a_file_that_was_just_asked_for() {
    for _ in 0..20 {
        let (upper, mut archive) = (tempfile::tempdir().unwrap(), Builder::new(Vec::new()));
        file(&mut archive, "a", b"a file");
        file(&mut archive, "a/b", b"below it");
        let error = applied(archive, upper.path()).unwrap_err().to_string();
        assert!(error.contains("is no directory"), "{error}");
    }
}

#[test]
fn whiteouts_do_not_take_the_layers_own_away() {
    let (upper, mut archive) = (tempfile::tempdir().unwrap(), Builder::new(Vec::new()));
    for f in 0..50 {
        file(&mut archive, &format!("f{f}"), b"own");
        file(&mut archive, &format!(".wh.f{f}"), b"");
    }
    applied(archive, upper.path()).unwrap();
    for f in 0..50 {
        assert_eq!(fs::read(upper.path().join(format!("f{f}"))).unwrap(), b"own");
    }
}

#[test]
fn a_tree_that_is_not_empty_is_looked_at() {
    let (upper, mut archive) = (tempfile::tempdir().unwrap(), Builder::new(Vec::new()));
    fs::create_dir_all(upper.path().join("old/deep")).unwrap();
    fs::write(upper.path().join("old/deep/file"), b"old").unwrap();
    file(&mut archive, "old/deep", b"new");
    applied(archive, upper.path()).unwrap();
    assert_eq!(fs::read(upper.path().join("old/deep")).unwrap(), b"new");
}

#[test]
fn a_file_that_cannot_be_made_is_named_and_nothing_is_made_after_it_is_told() {
    let (upper, mut archive) = (tempfile::tempdir().unwrap(), Builder::new(Vec::new()));
    for f in 0..200 {
        file(&mut archive, &format!("f{f}"), b"x");
    }
    let mut bad = header(EntryType::Regular, 1);
    // A name that the tar format holds, and no file system.
    archive.append_data(&mut bad, "n".repeat(300), &b"x"[..]).unwrap();
    let error = applied(archive, upper.path()).unwrap_err();
    assert!(matches!(&error, ApplyError::Refused { doing: "make a file", .. }), "{error}");
    assert!(error.to_string().contains("nnnn"), "{error}");
}
