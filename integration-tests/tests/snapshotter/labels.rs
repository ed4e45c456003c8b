//! Labels: kept, changed, and those that mean something to a snapshotter.

use berth_model::Code;
use berth_wire::unpacker as msg;

use crate::home::{Home, NS, labels, refused};

suite! {
    labels_are_given_anew_at_the_commit,
    labels_are_merged_or_replaced,
    what_is_there_is_not_made_again,
    owners_are_mapped,
    the_upper_directory_is_told,
}

async fn labels_are_given_anew_at_the_commit(home: &Home) {
    home.make("k", "", false, labels(&[("containerd.io/snapshot/a", "1"), ("b", "2")])).await.unwrap();
    let commit = msg::CommitActiveRequest { labels: labels(&[("c", "3")]), ..home.commit_of("n", "k") };
    home.unpacker.commit_active(commit).await.unwrap();
    let mut found = home.stat("n").await.unwrap().labels;
    found.retain(|key, _| !key.ends_with("upperdir"));
    assert_eq!(found, labels(&[("c", "3")]));
    home.prepare("child", "n").await.unwrap();
    let mut found = home.stat("child").await.unwrap().labels;
    found.retain(|key, _| !key.ends_with("upperdir"));
    assert_eq!(found, labels(&[]), "a child inherits none");
}

async fn labels_are_merged_or_replaced(home: &Home) {
    home.make("k", "", false, labels(&[("a", "1"), ("b.c/d", "2"), ("e", "3")])).await.unwrap();
    let before = home.stat("k").await.unwrap();
    let update = async |pairs: &[(&str, &str)], replace: bool| {
        let request = msg::UpdateTreeRequest {
            namespace: NS.into(),
            snapshotter: home.snapshotter.into(),
            key: "k".into(),
            labels: labels(pairs),
            replace,
        };
        let mut found = home.unpacker.update_tree(request).await?.labels;
        found.retain(|key, _| !key.ends_with("upperdir"));
        Ok::<_, berth_model::Status>(found)
    };
    assert_eq!(
        update(&[("a", "9"), ("b.c/d", "")], false).await.unwrap(),
        labels(&[("a", "9"), ("e", "3")]),
        "an empty value deletes"
    );
    assert_eq!(update(&[("z", "1")], true).await.unwrap(), labels(&[("z", "1")]));
    let after = home.stat("k").await.unwrap();
    assert_eq!(after.created_at, before.created_at);
    assert!(after.updated_at.unwrap().millis() >= before.updated_at.unwrap().millis());
    assert_ne!(after.updated_at, before.updated_at);
    refused(update(&[("k", &"v".repeat(5000))], false).await, Code::InvalidArgument, "label");
    let gone = msg::UpdateTreeRequest {
        namespace: NS.into(),
        snapshotter: home.snapshotter.into(),
        key: "gone".into(),
        labels: labels(&[("a", "b")]),
        replace: true,
    };
    refused(home.unpacker.update_tree(gone).await, Code::NotFound, "gone");
}

async fn what_is_there_is_not_made_again(home: &Home) {
    let wanted = labels(&[("containerd.io/snapshot.ref", "target")]);
    home.make("first", "", false, wanted.clone()).await.unwrap();
    home.commit("target", "first").await.unwrap();
    refused(home.make("second", "", false, wanted).await, Code::AlreadyExists, "target");
    refused(home.stat("second").await, Code::NotFound, "second");
}

async fn owners_are_mapped(home: &Home) {
    const UID: &str = "containerd.io/snapshot/uidmapping";
    const GID: &str = "containerd.io/snapshot/gidmapping";
    let mapped = labels(&[(UID, "0:1000:65536"), (GID, "0:2000:65536")]);
    home.layer("base", "", "echo > f").await;
    for (key, parent) in [("a", ""), ("b", "base")] {
        let mounts = home.make(key, parent, false, mapped.clone()).await.unwrap();
        let options = &mounts[0].options;
        assert_eq!(options[..2], ["uidmap=0:1000:65536", "gidmap=0:2000:65536"], "{options:?}");
        let upper = options.iter().find_map(|option| option.strip_prefix("upperdir=")).unwrap_or(&mounts[0].source);
        let facts = std::fs::metadata(upper).unwrap();
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!((facts.uid(), facts.gid()), (1000, 2000));
    }
    let before = home.dirs();
    for wrong in [&[(UID, "0:1000:65536")][..], &[(UID, "1:2:3"), (GID, "0:2:3")], &[(UID, "x"), (GID, "0:2:3")]] {
        refused(home.make("c", "base", false, labels(wrong)).await, Code::InvalidArgument, "mapping");
    }
    refused(home.stat("c").await, Code::NotFound, "c");
    assert_eq!(home.dirs(), before);
}

async fn the_upper_directory_is_told(home: &Home) {
    const LABEL: &str = "containerd.io/snapshot/overlay.upperdir";
    let mounts = home.prepare("k", "").await.unwrap();
    let found = home.stat("k").await.unwrap().labels;
    match home.snapshotter {
        "overlayfs" => assert_eq!(found.get(LABEL), Some(&mounts[0].source)),
        _ => assert_eq!(found.get(LABEL), None),
    }
}
