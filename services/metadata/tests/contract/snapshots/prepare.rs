//! Preparing: kinds, parents, ids, leases, taking the place of another.

use berth_model::Code;
use berth_wire::metadata as msg;
use msg::snapshot::Kind;
use serde_json::json;

use super::{commit, layer, list, prepare, stat, view};
use crate::homes::{Home, NS, labels, refused};

async fn leased(home: &Home) -> Vec<(String, String)> {
    let request = msg::ListLeasesRequest { namespace: NS.into(), ..Default::default() };
    let leases = home.metadata.list_leases(request).await.unwrap().leases;
    leases.into_iter().flat_map(|lease| lease.resources).map(|named| (named.r#type, named.id)).collect()
}

async fn a_new_snapshot_knows_the_chain_below(home: Home) {
    let m = &home.metadata;
    let (a, b) = (layer(&home, "a", "").await, layer(&home, "b", "a").await);
    let request = msg::PrepareSnapshotRequest { labels: labels(&[("x", "1")]), ..prepare("k", "b") };
    let reply = m.prepare_snapshot(request).await.unwrap();
    let made = reply.snapshot.clone().unwrap();
    assert_eq!((made.name.as_str(), made.parent.as_str(), made.kind()), ("k", "b", Kind::Active));
    assert_eq!((made.labels.clone(), made.usage), (labels(&[("x", "1")]), None));
    assert!(made.created_at.is_some() && made.created_at == made.updated_at);
    assert_eq!((reply.parent_ids.clone(), reply.replaced_id), (vec![b, a], 0));
    assert!(made.id > b && b > a && a > 0);
    let found = m.stat_snapshot(stat("k")).await.unwrap();
    assert_eq!((found.snapshot, found.parent_ids), (Some(made), reply.parent_ids));

    let seen = m.prepare_snapshot(view("v", "b")).await.unwrap();
    assert_eq!((seen.snapshot.unwrap().kind(), seen.parent_ids), (Kind::View, vec![b, a]));
    let event = |topic: &str, facts| (NS.to_owned(), topic.to_owned(), facts);
    let last = home.events().await.pop().unwrap();
    let facts = json!({ "key": "k", "parent": "b", "snapshotter": "overlay" });
    assert_eq!(last, event("/snapshot/prepare", facts), "a view makes no event");
}

async fn parents_must_be_committed(home: Home) {
    let m = &home.metadata;
    let words = ["parent snapshot \"p\"", "\"overlay\"", "\"default\"", "not found"];
    refused(m.prepare_snapshot(prepare("k", "p")).await, Code::NotFound, &words);
    m.prepare_snapshot(prepare("p", "")).await.unwrap();
    refused(m.prepare_snapshot(prepare("k", "p")).await, Code::InvalidArgument, &["\"p\"", "active, not committed"]);
    m.prepare_snapshot(view("v", "")).await.unwrap();
    refused(m.prepare_snapshot(view("k", "v")).await, Code::InvalidArgument, &["\"v\"", "view, not committed"]);
    m.commit_snapshot(commit("p", "q")).await.unwrap();
    m.prepare_snapshot(prepare("k", "q")).await.unwrap();
    let other = msg::PrepareSnapshotRequest { snapshotter: "erofs".into(), ..prepare("k", "q") };
    refused(m.prepare_snapshot(other).await, Code::NotFound, &["\"erofs\""]);
}

async fn keys_are_unique_and_ids_are_never_used_twice(home: Home) {
    let m = &home.metadata;
    let first = m.prepare_snapshot(prepare("k", "")).await.unwrap().snapshot.unwrap();
    let words = ["snapshot \"k\"", "\"overlay\"", "\"default\"", "already exists"];
    refused(m.prepare_snapshot(prepare("k", "")).await, Code::AlreadyExists, &words);
    layer(&home, "c", "").await;
    refused(m.prepare_snapshot(prepare("c", "")).await, Code::AlreadyExists, &["\"c\""]);
    let unless = |name: &str| msg::PrepareSnapshotRequest { unless: name.into(), ..prepare("n", "") };
    refused(m.prepare_snapshot(unless("c")).await, Code::AlreadyExists, &["\"c\""]);
    m.remove_snapshot(super::remove("k")).await.unwrap();
    let second = m.prepare_snapshot(prepare("k", "")).await.unwrap().snapshot.unwrap();
    assert!(second.id > first.id);
    let elsewhere = msg::PrepareSnapshotRequest { namespace: "other".into(), ..prepare("k", "") };
    let third = m.prepare_snapshot(elsewhere).await.unwrap().snapshot.unwrap();
    assert!(third.id > second.id, "ids are the whole store's");
    assert_eq!(list(&home).await.unwrap().len(), 2);
}

async fn an_active_one_can_lose_its_key(home: Home) {
    let m = &home.metadata;
    let replace = |key: &str| msg::PrepareSnapshotRequest { replace: true, ..prepare(key, "") };
    let old = m.prepare_snapshot(replace("k")).await.unwrap();
    assert_eq!(old.replaced_id, 0);
    let new = m.prepare_snapshot(replace("k")).await.unwrap();
    let id = |reply: &msg::PrepareSnapshotReply| reply.snapshot.as_ref().unwrap().id;
    assert_eq!(new.replaced_id, id(&old));
    let loser = msg::CommitSnapshotRequest { id: id(&old), ..commit("k", "c") };
    refused(m.commit_snapshot(loser).await, Code::Aborted, &["prepared anew"]);
    let winner = msg::CommitSnapshotRequest { id: id(&new), ..commit("k", "c") };
    m.commit_snapshot(winner).await.unwrap();
    refused(m.prepare_snapshot(replace("c")).await, Code::AlreadyExists, &["\"c\""]);
    m.prepare_snapshot(view("v", "c")).await.unwrap();
    refused(m.prepare_snapshot(replace("v")).await, Code::AlreadyExists, &["\"v\""]);
    let topics = ["/snapshot/prepare", "/snapshot/remove", "/snapshot/prepare", "/snapshot/commit"];
    assert_eq!(home.topics().await, topics);
}

async fn several_are_prepared_where_there_are_none(home: Home) {
    let m = &home.metadata;
    m.create_lease(msg::CreateLeaseRequest { namespace: NS.into(), id: "l".into(), ..Default::default() })
        .await
        .unwrap();
    layer(&home, "there", "").await;
    let begun = m.prepare_snapshot(prepare("k-begun", "")).await.unwrap().snapshot.unwrap();
    let wanted = |name: &str| msg::PrepareSnapshotRequest {
        unless: name.into(),
        lease: "l".into(),
        ..prepare(&format!("k-{name}"), "")
    };
    let all = |names: &[&str]| {
        let snapshots = names.iter().map(|name| wanted(name)).collect();
        m.prepare_snapshots(msg::PrepareSnapshotsRequest { snapshots })
    };
    let before = home.topics().await.len();
    let reply = all(&["there", "new", "begun", "newer"]).await.unwrap().snapshots;
    let [there, new, other, newer] = reply.as_slice() else { panic!("{reply:?}") };
    assert_eq!((there.id, there.unneeded), (0, true));
    assert_eq!((other.id, other.unneeded), (0, false));
    assert!(new.id > begun.id && newer.id > new.id && !new.unneeded, "{reply:?}");
    for (key, id) in [("k-new", new.id), ("k-newer", newer.id), ("k-begun", begun.id)] {
        assert_eq!(m.stat_snapshot(stat(key)).await.unwrap().snapshot.unwrap().id, id);
    }
    refused(m.stat_snapshot(stat("k-there")).await, Code::NotFound, &[]);
    assert_eq!(home.topics().await.split_off(before), ["/snapshot/prepare", "/snapshot/prepare"]);
    // A collection may begin at any moment: what is there, and what is begun, is held too.
    let mut held: Vec<String> = leased(&home).await.into_iter().map(|(_, name)| name).collect();
    held.sort();
    assert_eq!(held, ["begun", "k-begun", "k-new", "k-newer", "new", "newer", "there"]);

    let again = all(&["new", "newest"]).await.unwrap().snapshots;
    assert_eq!((again[0].id, again[0].unneeded), (0, false), "it was not prepared for this one");
    assert!(again[1].id > newer.id);
    // All or nothing.
    let snapshots = vec![wanted("good"), msg::PrepareSnapshotRequest { parent: "nobody".into(), ..wanted("bad") }];
    let bad = m.prepare_snapshots(msg::PrepareSnapshotsRequest { snapshots });
    refused(bad.await, Code::NotFound, &["nobody"]);
    refused(m.stat_snapshot(stat("k-good")).await, Code::NotFound, &[]);
    let many = msg::PrepareSnapshotsRequest { snapshots: vec![wanted("x"); 1001] };
    refused(m.prepare_snapshots(many).await, Code::InvalidArgument, &["1000"]);
}

async fn who_loses_its_key_gives_its_parent_free(home: Home) {
    let m = &home.metadata;
    layer(&home, "a", "").await;
    m.prepare_snapshot(prepare("k", "a")).await.unwrap();
    let request = msg::PrepareSnapshotRequest { replace: true, ..prepare("k", "") };
    m.prepare_snapshot(request).await.unwrap();
    m.remove_snapshot(super::remove("a")).await.unwrap();
}

async fn a_lease_gets_the_key_and_then_the_name(home: Home) {
    let m = &home.metadata;
    let held = |key: &str| msg::PrepareSnapshotRequest { lease: "l".into(), ..prepare(key, "") };
    refused(m.prepare_snapshot(held("k")).await, Code::NotFound, &["lease \"l\""]);
    refused(m.stat_snapshot(stat("k")).await, Code::NotFound, &[]);
    m.create_lease(msg::CreateLeaseRequest { namespace: NS.into(), id: "l".into(), ..Default::default() })
        .await
        .unwrap();
    m.prepare_snapshot(held("k")).await.unwrap();
    assert_eq!(leased(&home).await, [("snapshots/overlay".to_owned(), "k".to_owned())]);
    m.commit_snapshot(commit("k", "c")).await.unwrap();
    assert_eq!(leased(&home).await, [("snapshots/overlay".to_owned(), "c".to_owned())]);
}

async fn a_label_asks_for_one_that_is_there(home: Home) {
    let m = &home.metadata;
    m.create_lease(msg::CreateLeaseRequest { namespace: NS.into(), id: "l".into(), ..Default::default() })
        .await
        .unwrap();
    let wanted = |key: &str| msg::PrepareSnapshotRequest {
        lease: "l".into(),
        labels: labels(&[("containerd.io/snapshot.ref", "c")]),
        ..prepare(key, "")
    };
    m.prepare_snapshot(wanted("k")).await.unwrap();
    m.commit_snapshot(commit("k", "c")).await.unwrap();
    m.delete_lease(msg::DeleteLeaseRequest { namespace: NS.into(), id: "l".into() }).await.unwrap();
    m.create_lease(msg::CreateLeaseRequest { namespace: NS.into(), id: "l".into(), ..Default::default() })
        .await
        .unwrap();
    refused(m.prepare_snapshot(wanted("k2")).await, Code::AlreadyExists, &["\"c\""]);
    assert_eq!(leased(&home).await, [("snapshots/overlay".to_owned(), "c".to_owned())]);
    refused(m.stat_snapshot(stat("k2")).await, Code::NotFound, &[]);
}

async fn bad_requests_are_refused(home: Home) {
    let m = &home.metadata;
    for (bad, word) in [
        (prepare("", ""), "key"),
        (prepare(&"k".repeat(5000), ""), "key"),
        (msg::PrepareSnapshotRequest { snapshotter: String::new(), ..prepare("k", "") }, "snapshotter"),
        (msg::PrepareSnapshotRequest { snapshotter: "a/b".into(), ..prepare("k", "") }, "snapshotter"),
        (msg::PrepareSnapshotRequest { namespace: String::new(), ..prepare("k", "") }, "namespace"),
        (msg::PrepareSnapshotRequest { kind: 0, ..prepare("k", "") }, "unknown"),
        (msg::PrepareSnapshotRequest { kind: Kind::Committed.into(), ..prepare("k", "") }, "committed"),
        (msg::PrepareSnapshotRequest { labels: labels(&[("k", &"v".repeat(4096))]), ..prepare("k", "") }, "label"),
    ] {
        refused(m.prepare_snapshot(bad).await, Code::InvalidArgument, &[word]);
    }
    refused(m.stat_snapshot(stat("")).await, Code::InvalidArgument, &["key"]);
    assert!(list(&home).await.unwrap().is_empty());
}

crate::in_both_homes! {
    a_new_snapshot_knows_the_chain_below
    parents_must_be_committed
    keys_are_unique_and_ids_are_never_used_twice
    an_active_one_can_lose_its_key
    several_are_prepared_where_there_are_none
    who_loses_its_key_gives_its_parent_free
    a_lease_gets_the_key_and_then_the_name
    a_label_asks_for_one_that_is_there
    bad_requests_are_refused
}
