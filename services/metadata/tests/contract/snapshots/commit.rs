//! Committing: names, labels, usage, rebase, and the same commit twice.

use berth_model::Code;
use berth_wire::{metadata as msg, types};
use msg::snapshot::Kind;
use serde_json::json;

use super::{commit, layer, list, prepare, remove, stat, view};
use crate::homes::{Home, NS, labels, refused};

async fn the_key_gives_way_to_the_name(home: Home) {
    let m = &home.metadata;
    let active = msg::PrepareSnapshotRequest { labels: labels(&[("old", "1")]), ..prepare("k", "") };
    let active = m.prepare_snapshot(active).await.unwrap().snapshot.unwrap();
    let usage = types::Usage { inodes: 3, size: 4096 };
    let request = msg::CommitSnapshotRequest {
        labels: labels(&[("new", "2")]),
        usage: Some(usage),
        id: active.id,
        ..commit("k", "c")
    };
    let made = m.commit_snapshot(request.clone()).await.unwrap();
    assert_eq!((made.name.as_str(), made.kind(), made.id), ("c", Kind::Committed, active.id));
    assert_eq!((made.labels.clone(), made.usage), (labels(&[("new", "2")]), Some(usage)));
    refused(m.stat_snapshot(stat("k")).await, Code::NotFound, &["snapshot \"k\"", "\"overlay\"", "\"default\""]);
    assert_eq!(m.stat_snapshot(stat("c")).await.unwrap().snapshot, Some(made.clone()));
    assert_eq!(list(&home).await.unwrap(), std::slice::from_ref(&made));

    // The answer was lost and the request comes again: the id tells that it is the same.
    assert_eq!(m.commit_snapshot(request).await.unwrap(), made);
    let last = home.events().await.pop().unwrap();
    let facts = json!({ "key": "k", "name": "c", "snapshotter": "overlay" });
    assert_eq!(last, (NS.to_owned(), "/snapshot/commit".to_owned(), facts));
    assert_eq!(home.topics().await, ["/snapshot/prepare", "/snapshot/commit"]);
}

async fn codes(home: Home) {
    let m = &home.metadata;
    refused(m.commit_snapshot(commit("k", "c")).await, Code::NotFound, &["snapshot \"k\""]);
    layer(&home, "a", "").await;
    let active = m.prepare_snapshot(prepare("k", "a")).await.unwrap().snapshot.unwrap();
    m.prepare_snapshot(view("v", "a")).await.unwrap();
    m.prepare_snapshot(prepare("other", "")).await.unwrap();
    refused(m.commit_snapshot(commit("k", "a")).await, Code::AlreadyExists, &["\"a\"", "already exists"]);
    refused(m.commit_snapshot(commit("k", "other")).await, Code::AlreadyExists, &["\"other\""]);
    refused(m.commit_snapshot(commit("k", "k")).await, Code::AlreadyExists, &["\"k\""]);
    refused(m.commit_snapshot(commit("v", "c")).await, Code::FailedPrecondition, &["view, not active"]);
    refused(m.commit_snapshot(commit("a", "c")).await, Code::FailedPrecondition, &["committed, not active"]);
    let stale = msg::CommitSnapshotRequest { id: active.id + 100, ..commit("k", "c") };
    refused(m.commit_snapshot(stale).await, Code::Aborted, &["id"]);
    refused(m.commit_snapshot(commit("k", "")).await, Code::InvalidArgument, &["name"]);
    let bad = msg::CommitSnapshotRequest { labels: labels(&[("k", &"v".repeat(4096))]), ..commit("k", "c") };
    refused(m.commit_snapshot(bad).await, Code::InvalidArgument, &["label"]);
    assert_eq!(m.stat_snapshot(stat("k")).await.unwrap().snapshot, Some(active), "a refusal changes nothing");
}

async fn a_snapshot_without_parent_can_be_rebased(home: Home) {
    let m = &home.metadata;
    let (a, b) = (layer(&home, "a", "").await, layer(&home, "b", "").await);
    m.prepare_snapshot(prepare("k", "")).await.unwrap();
    m.prepare_snapshot(prepare("active", "")).await.unwrap();
    let onto = |key: &str, parent: &str| msg::CommitSnapshotRequest { parent: parent.into(), ..commit(key, "c") };
    refused(m.commit_snapshot(onto("k", "nobody")).await, Code::NotFound, &["parent snapshot \"nobody\""]);
    refused(m.commit_snapshot(onto("k", "active")).await, Code::InvalidArgument, &["not committed"]);
    assert_eq!(m.commit_snapshot(onto("k", "a")).await.unwrap().parent, "a");
    assert_eq!(m.stat_snapshot(stat("c")).await.unwrap().parent_ids, [a]);
    refused(m.remove_snapshot(remove("a")).await, Code::FailedPrecondition, &["cannot remove snapshot with child"]);

    m.prepare_snapshot(prepare("k", "b")).await.unwrap();
    let onto = |parent: &str| msg::CommitSnapshotRequest { parent: parent.into(), ..commit("k", "d") };
    refused(m.commit_snapshot(onto("a")).await, Code::FailedPrecondition, &["cannot be rebased"]);
    m.commit_snapshot(onto("b")).await.unwrap();
    assert_eq!(m.stat_snapshot(stat("d")).await.unwrap().parent_ids, [b]);
}

async fn many_are_committed_all_or_none(home: Home) {
    let m = &home.metadata;
    let there = |keys: &[&str]| msg::StatSnapshotsRequest {
        namespace: NS.into(),
        snapshotter: "overlay".into(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    };
    let mut commits = Vec::new();
    for (key, name, parent) in [("k1", "a", ""), ("k2", "b", "a"), ("k3", "c", "b")] {
        let id = m.prepare_snapshot(prepare(key, "")).await.unwrap().snapshot.unwrap().id;
        commits.push(msg::CommitSnapshotRequest { parent: parent.into(), id, ..commit(key, name) });
    }
    // Each stands on the one before it; one that is wrong takes all with it.
    let all = msg::CommitSnapshotsRequest { commits: commits.clone() };
    let mut broken = all.clone();
    broken.commits.push(commit("nobody", "d"));
    refused(m.commit_snapshots(broken).await, Code::NotFound, &["snapshot \"nobody\""]);
    assert_eq!(m.stat_snapshots(there(&["a", "b", "c"])).await.unwrap().snapshots, []);
    assert_eq!(home.topics().await, ["/snapshot/prepare"; 3]);

    let made = m.commit_snapshots(all.clone()).await.unwrap().snapshots;
    assert_eq!(
        made.iter().map(|one| (&*one.name, &*one.parent)).collect::<Vec<_>>(),
        [("a", ""), ("b", "a"), ("c", "b")]
    );
    assert_eq!(
        m.stat_snapshots(there(&["c", "k1", "a", "nobody"])).await.unwrap().snapshots,
        [made[2].clone(), made[0].clone()]
    );
    // The answer was lost and the request comes again.
    assert_eq!(m.commit_snapshots(all).await.unwrap().snapshots, made);
    assert_eq!(home.topics().await[3..], ["/snapshot/commit"; 3]);
    let many = msg::CommitSnapshotsRequest { commits: vec![commits[0].clone(); 1001] };
    refused(m.commit_snapshots(many).await, Code::InvalidArgument, &["1000"]);
}

crate::in_both_homes! {
    the_key_gives_way_to_the_name
    codes
    many_are_committed_all_or_none
    a_snapshot_without_parent_can_be_rebased
}
