//! Layers onto snapshots, and snapshots into layers.

use berth_api::content::BlobWriter;
use berth_model::{Code, Digest};
use berth_testing::{
    image::{Compression, Layer},
    tree::differences,
};
use berth_wire::{
    metadata as meta,
    types::{Descriptor, Mount},
    unpacker as msg,
};
use bytes::Bytes;
use tar::EntryType;

use crate::home::{Home, NS, labels, refused};

suite! {
    there_and_back,
    media_types_as_documented,
    a_diff_is_recorded_and_the_same_each_time,
    only_layers_of_the_namespace_are_applied,
    only_what_can_be_written_is_written_to,
    layers_applied_apart_are_put_together_by_their_commits,
    a_second_layer_on_one_snapshot,
    a_layer_may_be_applied_again,
}

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

async fn diff(
    home: &Home,
    lower: Vec<Mount>,
    upper: Vec<Mount>,
    media_type: &str,
) -> Result<Descriptor, berth_model::Status> {
    let request = msg::DiffMountsRequest {
        namespace: NS.into(),
        lower,
        upper,
        media_type: media_type.into(),
        labels: labels(&[("mine", "yes")]),
        ..Default::default()
    };
    home.unpacker.diff_mounts(request).await
}

async fn apply(
    home: &Home,
    layer: &Descriptor,
    mounts: Vec<Mount>,
) -> Result<msg::ApplyLayerReply, berth_model::Status> {
    let request = msg::ApplyLayerRequest { namespace: NS.into(), layer: Some(layer.clone()), mounts, sync: true };
    home.unpacker.apply_layer(request).await
}

async fn record(home: &Home, digest: &str) -> meta::Content {
    let request = meta::GetContentRequest { namespace: NS.into(), digest: digest.into() };
    home.metadata.get_content(request).await.unwrap()
}

/// A blob of the namespace.
async fn blob(home: &Home, bytes: Bytes, media_type: &str) -> Descriptor {
    let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
    let mut writer = BlobWriter::open(home.content.clone(), &digest.to_string(), Some(&digest), size).await.unwrap();
    writer.write(bytes).await.unwrap();
    writer.commit(size, &digest).await.unwrap();
    let entry = meta::put_content_request::Entry { digest: digest.to_string(), size, ..Default::default() };
    let request = meta::PutContentRequest { namespace: NS.into(), entries: vec![entry], ..Default::default() };
    home.metadata.put_content(request).await.unwrap();
    Descriptor { media_type: media_type.into(), digest: digest.to_string(), size, ..Default::default() }
}

async fn layer_of(home: &Home, layer: &Layer) -> Descriptor {
    blob(home, Compression::Gzip.compress(&layer.tar()), &format!("{TAR}+gzip")).await
}

async fn there_and_back(home: &Home) {
    home.layer("base", "", "mkdir -p a/b gone; echo 1 > a/b/f; ln a/b/f a/l; echo > gone/x; mkdir kept; echo > kept/k")
        .await;
    let changed = home.prepare("changed", "base").await.unwrap();
    let script = "rm -r gone; echo 2 > a/b/f; mkdir -p n/ew; chmod 750 a; chown 3:4 kept/k; ln -s a s; mkfifo n/p; touch -d 2001-01-01 n/ew";
    home.shell(&changed, script);
    // A layer says whole seconds.
    home.shell(&changed, "find . -newermt 2010-01-01 -exec touch -h -d 2020-01-01 {} +; touch -d 2020-01-01 a/l");
    let lower = home.view("lower", "base").await.unwrap();
    let written = diff(home, lower, changed.clone(), "").await.unwrap();
    let again = home.prepare("again", "base").await.unwrap();
    let applied = apply(home, &written, again.clone()).await.unwrap();
    assert_eq!(record(home, &written.digest).await.labels.get("containerd.io/uncompressed"), Some(&applied.diff_id));
    let (mut expected, mut found) = (home.tree(&changed), home.tree(&again));
    // The root's time is nobody's: every tree has a root.
    for tree in [&mut expected, &mut found] {
        tree.remove(std::path::Path::new(""));
    }
    assert_eq!(differences(&expected, &found), Vec::<String>::new());
}

async fn media_types_as_documented(home: &Home) {
    let changed = home.prepare("k", "").await.unwrap();
    home.shell(&changed, "mkdir d; seq 1 10000 > d/f");
    let mut diff_ids = Vec::new();
    for (asked, answered, magic) in [
        ("", "+gzip", &[0x1f, 0x8b][..]),
        ("+gzip", "+gzip", &[0x1f, 0x8b]),
        ("+zstd", "+zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
        ("", "", b"d/\0"),
    ] {
        let asked = if (asked, answered) == ("", "+gzip") { String::new() } else { format!("{TAR}{asked}") };
        let written = diff(home, Vec::new(), changed.clone(), &asked).await.unwrap();
        assert_eq!(written.media_type, format!("{TAR}{answered}"));
        let stat = berth_wire::content::StatBlobRequest { digest: written.digest.clone() };
        let bytes = std::fs::read(home.content.stat_blob(stat).await.unwrap().path).unwrap();
        assert!(bytes.starts_with(magic));
        assert_eq!((Digest::of(&bytes).to_string(), bytes.len() as u64), (written.digest.clone(), written.size));
        diff_ids.push(record(home, &written.digest).await.labels["containerd.io/uncompressed"].clone());
    }
    diff_ids.dedup();
    assert_eq!(diff_ids.len(), 1, "the same layer, however it is packed");
    refused(diff(home, Vec::new(), changed, "text/plain").await, Code::Unimplemented, "text/plain");
}

async fn a_diff_is_recorded_and_the_same_each_time(home: &Home) {
    let changed = home.prepare("k", "").await.unwrap();
    home.shell(&changed, "for n in 9 3 5; do echo $n > $n; done; mkdir d; ln 3 d/3");
    let one = diff(home, Vec::new(), changed.clone(), "").await.unwrap();
    assert_eq!(record(home, &one.digest).await.labels.get("mine").map(String::as_str), Some("yes"));
    let two = diff(home, Vec::new(), changed, "").await.unwrap();
    assert_eq!(one, two);
    let ingests = home.content.list_ingests(Default::default()).await.unwrap().ingests;
    assert_eq!(ingests, Vec::new());
    let leases = meta::ListLeasesRequest { namespace: NS.into(), ..Default::default() };
    assert_eq!(home.metadata.list_leases(leases).await.unwrap().leases, Vec::new());
}

async fn only_layers_of_the_namespace_are_applied(home: &Home) {
    let mounts = home.prepare("k", "").await.unwrap();
    let layer = layer_of(home, &Layer::new().file("f", b"x")).await;
    let absent = Descriptor { digest: Digest::of(b"absent").to_string(), ..layer.clone() };
    refused(apply(home, &absent, mounts.clone()).await, Code::NotFound, "not found");
    let json = Descriptor { media_type: "application/json".into(), ..layer.clone() };
    refused(apply(home, &json, mounts.clone()).await, Code::Unknown, "no processor for media-type");
    let broken = blob(home, Bytes::from_static(b"\x1f\x8bnonsense, and no gzip"), TAR).await;
    refused(apply(home, &broken, mounts.clone()).await, Code::InvalidArgument, "gzip");
    let applied = apply(home, &layer, mounts).await.unwrap();
    let tar = Layer::new().file("f", b"x").tar();
    assert_eq!((applied.diff_id, applied.size), (Digest::of(&tar).to_string(), tar.len() as u64));
}

async fn only_what_can_be_written_is_written_to(home: &Home) {
    home.layer("base", "", "true").await;
    let layer = layer_of(home, &Layer::new().file("f", b"x")).await;
    let mounts = home.view("v", "base").await.unwrap();
    refused(apply(home, &layer, mounts).await, Code::FailedPrecondition, "read-only");
    refused(apply(home, &layer, Vec::new()).await, Code::InvalidArgument, "no mounts");
    let nowhere = Mount { r#type: "bind".into(), source: "/nowhere/at/all".into(), options: vec!["rw".into()] };
    assert!(apply(home, &layer, vec![nowhere]).await.is_err());
    let mapped =
        vec![Mount { r#type: "bind".into(), source: "/tmp".into(), options: vec!["uidmap=0:1:2".into(), "rw".into()] }];
    refused(apply(home, &layer, mapped.clone()).await, Code::Unimplemented, "mapped");
    refused(diff(home, Vec::new(), mapped, "").await, Code::Unimplemented, "mapped");
}

/// As a client unpacks layers at the same time: each on nothing, and their parents named when they are committed.
async fn layers_applied_apart_are_put_together_by_their_commits(home: &Home) {
    let entry = |layer: Layer, path: &str, mode: u32, uid: u64, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_path(path).unwrap();
        header.set_entry_type(if path.ends_with('/') { EntryType::Directory } else { EntryType::Regular });
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(uid);
        header.set_size(data.len() as u64);
        header.set_mtime(1_000_000_000);
        header.set_cksum();
        layer.append(&header, data)
    };
    let base = entry(Layer::new(), "d/", 0o750, 5, b"");
    let base = entry(base, "d/low", 0o640, 6, b"low");
    let base = entry(base, "d/gone", 0o644, 0, b"gone");
    let base = entry(base, "d/sub/", 0o711, 7, b"").symlink("link", "d/sub");
    let base = entry(base, "d/sub/old", 0o644, 0, b"old");
    let middle = Layer::new().whiteout("d/gone").hardlink("d/also", "d/low").file("link/through", b"a link");
    let top = Layer::new().opaque("d/sub").file("d/sub/last", b"last");
    let mut parent = String::new();
    let mut waiting = Vec::new();
    for (name, layer) in [("one", base), ("two", middle), ("three", top)] {
        let mounts = home.prepare(&format!("key {name}"), "").await.unwrap();
        let layer = layer_of(home, &layer).await;
        apply(home, &layer, mounts.clone()).await.unwrap();
        waiting.push(name);
    }
    for name in waiting {
        home.rebase(name, &format!("key {name}"), &parent).await.unwrap();
        parent = name.to_owned();
    }
    let tree = home.tree_of("three").await;
    let names: Vec<_> = tree.keys().map(|path| path.display().to_string()).collect();
    assert_eq!(names, ["", "d", "d/also", "d/low", "d/sub", "d/sub/last", "link"]);
    let facts = |path: &str| {
        let entry = &tree[std::path::Path::new(path)];
        (entry.mode, entry.uid, entry.gid)
    };
    assert_eq!(facts("d"), (0o750, 5, 5), "what only the lowest layer says of it");
    assert_eq!(facts("d/sub"), (0o711, 7, 7));
    assert_eq!(facts("d/also"), (0o640, 6, 6));
    assert_eq!(tree[std::path::Path::new("d/low")].same_as.as_deref(), Some(std::path::Path::new("d/also")));
    let names: Vec<_> = home.tree_of("two").await.keys().map(|path| path.display().to_string()).collect();
    assert_eq!(names, ["", "d", "d/also", "d/low", "d/sub", "d/sub/old", "d/sub/through", "link"]);
}

async fn a_second_layer_on_one_snapshot(home: &Home) {
    home.layer("base", "", "mkdir -p d/e; echo low > d/low; echo > d/e/f").await;
    let mounts = home.prepare("k", "base").await.unwrap();
    let one = layer_of(home, &Layer::new().file("d/new", b"1").file("d/gone", b"2").whiteout("d/low")).await;
    let two = layer_of(home, &Layer::new().whiteout("d/gone").opaque("d/e").file("d/e/g", b"3")).await;
    apply(home, &one, mounts.clone()).await.unwrap();
    apply(home, &two, mounts.clone()).await.unwrap();
    let names: Vec<_> = home.tree(&mounts).keys().map(|path| path.display().to_string()).collect();
    assert_eq!(names, ["", "d", "d/e", "d/e/g", "d/new"]);
    home.commit("c", "k").await.unwrap();
    assert_eq!(home.tree_of("c").await.len(), 5);
}

/// A call whose answer got lost comes again.
async fn a_layer_may_be_applied_again(home: &Home) {
    home.layer("base", "", "mkdir d; echo > d/gone; echo > d/kept; mkdir o; echo > o/old").await;
    let layer =
        Layer::new().whiteout("d/gone").file("d/new", b"1").hardlink("d/link", "d/new").opaque("o").file("o/n", b"2");
    let layer = layer_of(home, &layer).await;
    let on_it = home.prepare("on it", "base").await.unwrap();
    let apart = home.prepare("apart", "").await.unwrap();
    // As containerd's newer clients have a layer applied that gets its parent later.
    let overlaid = home.prepare("overlaid", "").await.unwrap();
    let overlaid = vec![Mount {
        r#type: "overlay".into(),
        source: "overlay".into(),
        options: vec![format!("upperdir={}", overlaid[0].source)],
    }];
    let mut answers = Vec::new();
    for mounts in [on_it, apart, overlaid] {
        let (one, two) = tokio::join!(apply(home, &layer, mounts.clone()), apply(home, &layer, mounts.clone()));
        answers.extend([one.unwrap(), two.unwrap(), apply(home, &layer, mounts).await.unwrap()]);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    home.commit("one", "on it").await.unwrap();
    home.rebase("two", "apart", "base").await.unwrap();
    home.rebase("three", "overlaid", "base").await.unwrap();
    for name in ["one", "two", "three"] {
        let names: Vec<_> = home.tree_of(name).await.keys().map(|path| path.display().to_string()).collect();
        assert_eq!(names, ["", "d", "d/kept", "d/link", "d/new", "o", "o/n"], "{name}");
    }
}
