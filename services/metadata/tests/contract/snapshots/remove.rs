//! Removing, updating, listing.

use berth_model::Code;
use berth_wire::metadata as msg;
use serde_json::json;

use super::{commit, layer, list, prepare, remove, stat, update, view};
use crate::homes::{Home, NS, labels, refused};

async fn what_has_children_stays(home: Home) {
    let m = &home.metadata;
    refused(m.remove_snapshot(remove("k")).await, Code::NotFound, &["snapshot \"k\"", "\"overlay\"", "\"default\""]);
    let id = layer(&home, "a", "").await;
    layer(&home, "b", "a").await;
    m.prepare_snapshot(prepare("k", "b")).await.unwrap();
    m.prepare_snapshot(view("v", "b")).await.unwrap();
    let words = ["cannot remove snapshot with child"];
    for parent in ["a", "b"] {
        refused(m.remove_snapshot(remove(parent)).await, Code::FailedPrecondition, &words);
    }
    m.remove_snapshot(remove("k")).await.unwrap();
    refused(m.remove_snapshot(remove("b")).await, Code::FailedPrecondition, &words);
    for key in ["v", "b"] {
        m.remove_snapshot(remove(key)).await.unwrap();
    }
    let removed = m.remove_snapshot(remove("a")).await.unwrap();
    assert_eq!((removed.name.as_str(), removed.id), ("a", id));
    assert!(list(&home).await.unwrap().is_empty());
    let last = home.events().await.pop().unwrap();
    let facts = json!({ "key": "a", "snapshotter": "overlay" });
    assert_eq!(last, (NS.to_owned(), "/snapshot/remove".to_owned(), facts));
}

async fn who_means_one_that_was_replaced_removes_nothing(home: Home) {
    let m = &home.metadata;
    let old = m.prepare_snapshot(prepare("k", "")).await.unwrap().snapshot.unwrap().id;
    let request = msg::PrepareSnapshotRequest { replace: true, ..prepare("k", "") };
    let new = m.prepare_snapshot(request).await.unwrap().snapshot.unwrap().id;
    let of = |id| msg::RemoveSnapshotRequest { id, ..remove("k") };
    refused(m.remove_snapshot(of(old)).await, Code::Aborted, &["\"k\"", "prepared anew", &new.to_string()]);
    assert_eq!(m.remove_snapshot(of(new)).await.unwrap().id, new);
}

async fn the_child_of_a_committed_key_counts_for_its_name(home: Home) {
    let m = &home.metadata;
    layer(&home, "a", "").await;
    m.prepare_snapshot(prepare("k", "a")).await.unwrap();
    m.commit_snapshot(commit("k", "b")).await.unwrap();
    m.prepare_snapshot(prepare("k", "")).await.unwrap();
    m.remove_snapshot(remove("k")).await.unwrap();
    refused(m.remove_snapshot(remove("a")).await, Code::FailedPrecondition, &[]);
    m.remove_snapshot(remove("b")).await.unwrap();
    m.remove_snapshot(remove("a")).await.unwrap();
}

async fn labels_are_merged(home: Home) {
    let m = &home.metadata;
    refused(m.update_snapshot(update("k", labels(&[]))).await, Code::NotFound, &["snapshot \"k\""]);
    let request = msg::PrepareSnapshotRequest { labels: labels(&[("a", "1"), ("b", "2")]), ..prepare("k", "") };
    let made = m.prepare_snapshot(request).await.unwrap().snapshot.unwrap();
    let updated = m.update_snapshot(update("k", labels(&[("a", ""), ("c", "3")]))).await.unwrap();
    assert_eq!(updated.labels, labels(&[("b", "2"), ("c", "3")]));
    assert_eq!((updated.id, updated.created_at), (made.id, made.created_at));
    assert_ne!(updated.updated_at, made.updated_at);
    assert_eq!(m.stat_snapshot(stat("k")).await.unwrap().snapshot, Some(updated));
    let long = labels(&[("k", &"v".repeat(4096))]);
    refused(m.update_snapshot(update("k", long)).await, Code::InvalidArgument, &["label"]);
    assert_eq!(home.topics().await.len(), 1);
}

async fn lists_come_in_pages_in_key_order(home: Home) {
    let m = &home.metadata;
    for n in (0..7).rev() {
        m.prepare_snapshot(prepare(&format!("k{n}"), "")).await.unwrap();
    }
    let other = msg::PrepareSnapshotRequest { snapshotter: "overlay2".into(), ..prepare("x", "") };
    m.prepare_snapshot(other).await.unwrap();
    let request = |after: &str| msg::ListSnapshotsRequest {
        namespace: NS.into(),
        snapshotter: "overlay".into(),
        after: after.into(),
        limit: 4,
    };
    let page = m.list_snapshots(request("")).await.unwrap();
    assert_eq!((page.snapshots.len(), page.more, page.snapshots[3].name.as_str()), (4, true, "k3"));
    let page = m.list_snapshots(request("k3")).await.unwrap();
    assert_eq!((page.snapshots.len(), page.more, page.snapshots[2].name.as_str()), (3, false, "k6"));
    let bad = msg::ListSnapshotsRequest { snapshotter: String::new(), ..request("") };
    refused(m.list_snapshots(bad).await, Code::InvalidArgument, &["snapshotter"]);
}

crate::in_both_homes! {
    what_has_children_stays
    who_means_one_that_was_replaced_removes_nothing
    the_child_of_a_committed_key_counts_for_its_name
    labels_are_merged
    lists_come_in_pages_in_key_order
}
