//! Layers with every odd entry that a layer may honestly have.

use std::{fs::File, os::unix::fs::FileExt as _};

use anyhow::Result;

use crate::layer::{Entry, layer, layer_by_gnu_tar};

/// `cap_net_raw=ep`, as `struct vfs_cap_data` revision 2 (`linux/capability.h`).
const CAP_NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The uncompressed layers, lowest first.
pub fn odd_layers() -> Result<Vec<Vec<u8>>> {
    Ok(vec![
        layer(every_kind())?,
        sparse("--format=posix", "sparse-posix")?,
        sparse("--format=gnu", "sparse-gnu")?,
        layer(changes())?,
        layer([])?,
        layer(without_parents())?,
    ])
}

/// Each kind of entry, and each property that a tar can give it.
fn every_kind() -> Vec<Entry> {
    let long_directory = "a-directory-with-a-long-name/".repeat(9);
    let long = format!("{long_directory}{}", "f".repeat(200));
    let mut entries = vec![
        Entry::dir("./").mtime("1650000000.25"),
        Entry::dir("./etc"),
        Entry::file("./etc/motd", "with a dot and a slash before\n"),
        Entry::dir("usr/"),
        Entry::dir("usr/bin/"),
        Entry::file("usr/bin/su", "setuid").mode(0o4755),
        Entry::file("usr/bin/wall", "setgid").mode(0o2755).owner(0, 5),
        Entry::file("usr/bin/ping", "capable").mode(0o755).xattr("security.capability", CAP_NET_RAW),
        Entry::dir("tmp").mode(0o1777),
        Entry::dir("home").mtime("1500000000.000000001"),
        Entry::dir("home/user").mode(0o700).owner(1000, 1000),
        Entry::file("home/user/notes", "mine").mode(0o600).owner(1000, 1000).mtime("1612345678.987654321"),
        Entry::dir("share").mode(0o2775).owner(0, 50),
        Entry::file("share/big-owner", "x").owner(3_000_000, 4_000_000),
        Entry::file("share/old", "1970").mtime("0"),
        Entry::file("share/older", "1965").mtime("-157680000"),
        Entry::file("share/empty", ""),
        Entry::file("share/unreadable", "secret").mode(0),
        Entry::file("share/attributes", "x").xattr("user.text", "words").xattr("user.bytes", vec![0, 255, 10, 61]),
        Entry::dir("share/attributed").xattr("user.on-a-directory", "yes"),
        Entry::dir("links"),
        Entry::file("links/one", "three names"),
        Entry::hard_link("links/two", "links/one"),
        Entry::hard_link("share/three", "./links/one"),
        Entry::symlink("links/relative", "../etc/motd").mtime("1555555555.5"),
        Entry::symlink("links/absolute", "/etc/motd"),
        Entry::symlink("links/dangling", "nowhere/at/all").owner(1000, 1000),
        Entry::symlink("links/up", "../../../../../etc"),
        Entry::symlink("links/long", &"long/".repeat(40)),
        Entry::hard_link("links/linked-symlink", "links/relative"),
        Entry::dir("dev"),
        Entry::char_device("dev/null", 1, 3).mode(0o666),
        Entry::char_device("dev/large-minor", 10, 300_000),
        Entry::block_device("dev/loop0", 7, 0).owner(0, 6),
        Entry::fifo("dev/pipe").owner(3, 4),
        Entry::dir("names"),
        Entry::file("names/with space", "x"),
        Entry::file("names/with\nnewline", "x"),
        Entry::file("names/back\\slash", "x"),
        Entry::file("names/grüße-世界", "x"),
        Entry::file("names/-dash", "x"),
        Entry::file("names/.hidden", "x"),
        Entry::file("names/.wh-is-no-whiteout", "x"),
        Entry::file("names/twice", "the first is forgotten"),
        Entry::file("names/twice", "the second counts").mode(0o640),
    ];
    let mut directory = String::new();
    for part in long_directory.split_terminator('/') {
        directory.push_str(part);
        entries.push(Entry::dir(&directory));
        directory.push('/');
    }
    entries.push(Entry::file(&long, "a long way"));
    entries.push(Entry::hard_link("names/long-link", &long));
    for gone in ["gone", "gone/below", "hidden", "hidden/below", "refilled", "kept", "kept/deep", "kept/deep/er"] {
        let entry = Entry::dir(&format!("changing/{gone}"));
        entries.push(entry.mode(0o750).owner(7, 8).mtime("1600000000.125"));
    }
    entries.insert(0, Entry::dir("changing"));
    for file in ["gone/below/f", "hidden/f", "hidden/below/f", "refilled/f", "refilled/g", "file", "to-dir", "chmod"] {
        entries.push(Entry::file(&format!("changing/{file}"), "from the first layer"));
    }
    entries.extend([
        Entry::dir("changing/to-file"),
        Entry::file("changing/to-file/inside", "x"),
        Entry::dir("changing/to-symlink"),
        Entry::file("changing/to-symlink/inside", "x"),
        Entry::symlink("changing/symlink-to-dir", "kept"),
        Entry::symlink("changing/symlink-to-file", "../etc/motd"),
        Entry::file("changing/device", "x"),
        Entry::file("changing/linked-a", "both"),
        Entry::hard_link("changing/linked-b", "changing/linked-a"),
    ]);
    entries
}

/// What a layer can do to the layers below.
fn changes() -> Vec<Entry> {
    vec![
        Entry::dir("changing").mtime("1620000000.5"),
        Entry::whiteout("changing/file"),
        Entry::whiteout("changing/gone"),
        Entry::whiteout("changing/was-never-there"),
        // Opaque: the marker first, and the marker after a file of its own layer.
        Entry::dir("changing/hidden").mode(0o711),
        Entry::opaque("changing/hidden"),
        Entry::file("changing/hidden/new", "new"),
        Entry::dir("changing/refilled"),
        Entry::file("changing/refilled/g", "again"),
        Entry::opaque("changing/refilled"),
        Entry::dir("changing/to-dir"),
        Entry::file("changing/to-dir/inside", "a directory now"),
        Entry::file("changing/to-file", "a file now"),
        Entry::symlink("changing/to-symlink", "kept"),
        Entry::dir("changing/symlink-to-dir"),
        Entry::file("changing/symlink-to-dir/inside", "not in kept"),
        Entry::file("changing/symlink-to-file", "not in etc"),
        Entry::char_device("changing/device", 1, 5),
        Entry::file("changing/chmod", "from the first layer").mode(0o400).owner(9, 9),
        // One of two names changes; the other stays what it was.
        Entry::file("changing/linked-a", "not both"),
        Entry::dir("home/user").mode(0o711).owner(1001, 1001).mtime("1630000000.75"),
    ]
}

/// Entries whose directories are in layers below, and nowhere.
fn without_parents() -> Vec<Entry> {
    vec![
        Entry::file("changing/kept/new", "beside what was there"),
        Entry::file("changing/kept/deep/er/new", "far below"),
        Entry::file("share/attributed/new", "x"),
        Entry::whiteout("home/user/notes"),
    ]
}

/// A file that is mostly holes, packed by GNU tar in one of its two forms.
fn sparse(format: &str, name: &str) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let holes = directory.path().join("holes");
    std::fs::create_dir(&holes)?;
    let file = File::create(holes.join(name))?;
    file.set_len(48 << 20)?;
    file.write_all_at(b"at the beginning", 0)?;
    file.write_all_at(&[7; 9000], 5 << 20)?;
    file.write_all_at(b"in the middle", 31 << 20)?;
    File::create(holes.join(format!("{name}-only-a-hole")))?.set_len(3 << 20)?;
    layer_by_gnu_tar(
        directory.path(),
        &["--sparse", format, "--mtime=@1650000000.25", "--owner=0", "--group=0", "--mode=u=rwX,go=rX"],
    )
}
