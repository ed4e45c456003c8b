//! What is refused, with which code and words, and that a refusal leaves nothing.

use berth_model::{Code, labels::Labels};
use berth_wire::{metadata as meta, unpacker as msg};

use crate::home::{Home, NS, labels, refused};

suite! {
    names_are_taken_once,
    parents_are_committed_ones,
    unknown_things_are_not_found,
    only_known_snapshotters_are_asked,
    only_what_is_active_is_committed,
    leases_must_be_there,
    namespaces_do_not_see_each_other,
}

async fn names_are_taken_once(home: &Home) {
    home.layer("base", "", "true").await;
    home.prepare("key", "").await.unwrap();
    home.view("view", "").await.unwrap();
    for key in ["key", "view", "base"] {
        refused(home.prepare(key, "").await, Code::AlreadyExists, key);
        refused(home.view(key, "").await, Code::AlreadyExists, key);
        refused(home.prepare(key, "base").await, Code::AlreadyExists, key);
    }
    home.prepare("other", "").await.unwrap();
    for name in ["base", "key", "view"] {
        refused(home.commit(name, "other").await, Code::AlreadyExists, name);
    }
    assert_eq!(home.names().await, ["base", "key", "other", "view"]);
}

async fn parents_are_committed_ones(home: &Home) {
    home.prepare("active", "").await.unwrap();
    home.view("view", "").await.unwrap();
    let before = home.dirs();
    for parent in ["active", "view"] {
        refused(home.prepare("k", parent).await, Code::InvalidArgument, parent);
        refused(home.view("k", parent).await, Code::InvalidArgument, parent);
    }
    refused(home.prepare("k", "gone").await, Code::NotFound, "gone");
    refused(home.view("k", "gone").await, Code::NotFound, "gone");
    refused(home.stat("k").await, Code::NotFound, "k");
    assert_eq!(home.dirs(), before);
}

async fn unknown_things_are_not_found(home: &Home) {
    refused(home.stat("gone").await, Code::NotFound, "gone");
    refused(home.mounts("gone").await, Code::NotFound, "gone");
    refused(home.usage("gone").await, Code::NotFound, "gone");
    refused(home.remove("gone").await, Code::NotFound, "gone");
    refused(home.commit("name", "gone").await, Code::NotFound, "gone");
    home.layer("base", "", "true").await;
    refused(home.mounts("base").await, Code::FailedPrecondition, "committed");
    refused(home.commit("again", "base").await, Code::FailedPrecondition, "not active");
}

async fn only_known_snapshotters_are_asked(home: &Home) {
    for name in ["", "btrfs"] {
        let request = msg::PrepareMountsRequest {
            namespace: NS.into(),
            snapshotter: name.into(),
            key: "k".into(),
            ..Default::default()
        };
        refused(home.unpacker.prepare_mounts(request).await, Code::InvalidArgument, "snapshotter");
        let request = msg::StatTreeRequest { namespace: NS.into(), snapshotter: name.into(), key: "k".into() };
        refused(home.unpacker.stat_tree(request).await, Code::InvalidArgument, "snapshotter");
        let request = msg::ListTreesRequest { namespace: NS.into(), snapshotter: name.into(), ..Default::default() };
        refused(home.unpacker.list_trees(request).await, Code::InvalidArgument, "snapshotter");
        let request = msg::CleanUpRequest { snapshotter: name.into() };
        refused(home.unpacker.clean_up(request).await, Code::InvalidArgument, "snapshotter");
    }
    refused(home.prepare("", "").await, Code::InvalidArgument, "key");
    let long = labels(&[("k", &"v".repeat(5000))]);
    refused(home.make("k", "", false, long).await, Code::InvalidArgument, "label");
    assert_eq!(home.names().await, Vec::<String>::new());
}

async fn only_what_is_active_is_committed(home: &Home) {
    home.view("view", "").await.unwrap();
    refused(home.commit("c", "view").await, Code::FailedPrecondition, "not active");
    home.prepare("k", "").await.unwrap();
    refused(home.commit("", "k").await, Code::InvalidArgument, "name");
    home.commit("c", "k").await.unwrap();
    refused(home.stat("k").await, Code::NotFound, "k");
    refused(home.commit("d", "k").await, Code::NotFound, "k");
}

async fn leases_must_be_there(home: &Home) {
    let mut request = msg::PrepareMountsRequest {
        namespace: NS.into(),
        snapshotter: home.snapshotter.into(),
        key: "k".into(),
        lease: "gone".into(),
        ..Default::default()
    };
    let before = home.dirs();
    refused(home.unpacker.prepare_mounts(request.clone()).await, Code::NotFound, "gone");
    refused(home.stat("k").await, Code::NotFound, "k");
    assert_eq!(home.dirs(), before);

    let lease = meta::CreateLeaseRequest { namespace: NS.into(), id: "held".into(), ..Default::default() };
    home.metadata.create_lease(lease).await.unwrap();
    request.lease = "held".into();
    home.unpacker.prepare_mounts(request).await.unwrap();
    let resources = async || {
        let get = meta::GetLeaseRequest { namespace: NS.into(), id: "held".into() };
        let lease = home.metadata.get_lease(get).await.unwrap();
        lease.resources.into_iter().map(|found| format!("{} {}", found.r#type, found.id)).collect::<Vec<_>>()
    };
    assert_eq!(resources().await, [format!("snapshots/{} k", home.snapshotter)]);
    // The entry goes along with the snapshot.
    home.commit("c", "k").await.unwrap();
    assert_eq!(resources().await, [format!("snapshots/{} c", home.snapshotter)]);
}

async fn namespaces_do_not_see_each_other(home: &Home) {
    home.prepare("k", "").await.unwrap();
    let stat = |namespace: &str| msg::StatTreeRequest {
        namespace: namespace.into(),
        snapshotter: home.snapshotter.into(),
        key: "k".into(),
    };
    refused(home.unpacker.stat_tree(stat("other")).await, Code::NotFound, "k");
    let request = msg::PrepareMountsRequest {
        namespace: "other".into(),
        snapshotter: home.snapshotter.into(),
        key: "k".into(),
        labels: Labels::new(),
        ..Default::default()
    };
    let other = home.unpacker.prepare_mounts(request).await.unwrap().mounts;
    assert_ne!(other, home.mounts("k").await.unwrap());
    refused(home.unpacker.stat_tree(stat("a b")).await, Code::InvalidArgument, "namespace");
}
