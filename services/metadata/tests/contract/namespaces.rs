//! Namespaces as records, containers in them, and events of somebody else.

use berth_model::{Code, labels::Labels};
use berth_wire::metadata as msg;
use serde_json::json;

use crate::homes::{Home, NS, digest, labels, refused};

fn create(name: &str, pairs: &[(&str, &str)]) -> msg::CreateNamespaceRequest {
    msg::CreateNamespaceRequest { name: name.into(), labels: labels(pairs) }
}

fn update(name: &str, pairs: &[(&str, &str)], paths: &[&str]) -> msg::UpdateNamespaceRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    msg::UpdateNamespaceRequest { name: name.into(), labels: labels(pairs), paths }
}

fn delete(name: &str) -> msg::DeleteNamespaceRequest {
    msg::DeleteNamespaceRequest { name: name.into() }
}

async fn labels_of(home: &Home, name: &str) -> Labels {
    home.metadata.get_namespace(msg::GetNamespaceRequest { name: name.into() }).await.unwrap().labels
}

async fn names(home: &Home) -> Vec<String> {
    let all = home.metadata.list_namespaces(msg::ListNamespacesRequest::default()).await.unwrap();
    assert!(!all.more);
    all.namespaces.into_iter().map(|namespace| namespace.name).collect()
}

fn container(id: &str) -> msg::Container {
    msg::Container {
        id: id.into(),
        image: "i".into(),
        runtime: "io.containerd.runc.v2".into(),
        spec: Some(msg::Payload { type_url: "spec".into(), value: b"{}".to_vec() }),
        labels: labels(&[("a", "1"), ("gone", "")]),
        snapshotter: "overlay".into(),
        snapshot_key: "active".into(),
        ..msg::Container::default()
    }
}

fn create_container(container: msg::Container) -> msg::CreateContainerRequest {
    msg::CreateContainerRequest { namespace: NS.into(), container: Some(container) }
}

fn update_container(container: msg::Container, paths: &[&str]) -> msg::UpdateContainerRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    msg::UpdateContainerRequest { namespace: NS.into(), container: Some(container), paths }
}

fn get_container(id: &str) -> msg::GetContainerRequest {
    msg::GetContainerRequest { namespace: NS.into(), id: id.into() }
}

async fn namespaces_are_made_labelled_and_ended(home: Home) {
    let m = &home.metadata;
    let made = m.create_namespace(create("a", &[("k", "1"), ("empty", "")])).await.unwrap();
    assert_eq!((made.name.as_str(), &made.labels), ("a", &labels(&[("k", "1")])));
    refused(m.create_namespace(create("a", &[])).await, Code::AlreadyExists, &["\"a\""]);
    refused(m.create_namespace(create("a b", &[])).await, Code::InvalidArgument, &["a b"]);
    refused(m.create_namespace(create("c", &[("k", &"v".repeat(4096))])).await, Code::InvalidArgument, &["label"]);
    assert_eq!(labels_of(&home, "nowhere").await, Labels::new());

    m.update_namespace(update("a", &[("l", "2")], &["labels.l", "labels.k"])).await.unwrap();
    assert_eq!(labels_of(&home, "a").await, labels(&[("l", "2")]));
    m.update_namespace(update("a", &[("m", "3")], &[])).await.unwrap();
    assert_eq!(labels_of(&home, "a").await, labels(&[("m", "3")]));
    refused(m.update_namespace(update("a", &[], &["name"])).await, Code::InvalidArgument, &["name"]);
    // What is put into one does not touch its labels.
    m.create_lease(msg::CreateLeaseRequest { namespace: "a".into(), id: "l".into(), ..Default::default() })
        .await
        .unwrap();
    assert_eq!(labels_of(&home, "a").await, labels(&[("m", "3")]));
    m.update_namespace(update("b", &[("x", "y")], &["labels.x"])).await.unwrap();
    assert_eq!(names(&home).await, ["a", "b"]);

    m.delete_namespace(delete("a")).await.unwrap();
    assert_eq!(names(&home).await, ["b"]);
    refused(m.delete_namespace(delete("a")).await, Code::NotFound, &["\"a\""]);
    let lease = msg::GetLeaseRequest { namespace: "a".into(), id: "l".into() };
    refused(m.get_lease(lease).await, Code::NotFound, &["lease"]);
    let events: Vec<_> = home.events().await.into_iter().map(|event| (event.0, event.1)).collect();
    let expected = [("a", "create"), ("a", "update"), ("a", "update"), ("b", "update"), ("a", "delete")];
    assert_eq!(events, expected.map(|(namespace, what)| (namespace.to_owned(), format!("/namespaces/{what}"))));
}

async fn a_namespace_that_holds_something_stays(home: Home) {
    let m = &home.metadata;
    let target = berth_wire::types::Descriptor {
        media_type: "m".into(),
        digest: digest("x"),
        size: 1,
        ..berth_wire::types::Descriptor::default()
    };
    let image = msg::Image { name: "pic".into(), target: Some(target), ..msg::Image::default() };
    m.put_image(msg::PutImageRequest { namespace: NS.into(), image: Some(image), ..Default::default() }).await.unwrap();
    let entry = msg::put_content_request::Entry { digest: digest("x"), size: 1, ..Default::default() };
    m.put_content(msg::PutContentRequest { namespace: NS.into(), entries: vec![entry], ..Default::default() })
        .await
        .unwrap();
    m.create_container(create_container(container("box"))).await.unwrap();
    let prepare = msg::PrepareSnapshotRequest {
        namespace: NS.into(),
        snapshotter: "overlay".into(),
        key: "active".into(),
        kind: msg::snapshot::Kind::Active.into(),
        ..Default::default()
    };
    m.prepare_snapshot(prepare).await.unwrap();
    let all =
        ["must be empty", "images (pic)", "blobs (sha256:", "containers (box)", "\"overlay\" snapshotter (active)"];
    refused(m.delete_namespace(delete(NS)).await, Code::FailedPrecondition, &all);

    let image = msg::DeleteImageRequest { namespace: NS.into(), name: "pic".into(), target: String::new() };
    m.delete_image(image).await.unwrap();
    m.delete_content(msg::DeleteContentRequest { namespace: NS.into(), digest: digest("x") }).await.unwrap();
    refused(m.delete_namespace(delete(NS)).await, Code::FailedPrecondition, &["still has containers"]);
    m.delete_container(msg::DeleteContainerRequest { namespace: NS.into(), id: "box".into() }).await.unwrap();
    refused(m.delete_namespace(delete(NS)).await, Code::FailedPrecondition, &["still has snapshots"]);
    let remove =
        msg::RemoveSnapshotRequest { namespace: NS.into(), snapshotter: "overlay".into(), key: "active".into(), id: 0 };
    m.remove_snapshot(remove).await.unwrap();
    m.delete_namespace(delete(NS)).await.unwrap();
    assert!(names(&home).await.is_empty());
}

async fn containers_are_kept_changed_and_dropped(home: Home) {
    let m = &home.metadata;
    let made = m.create_container(create_container(container("box"))).await.unwrap();
    assert_eq!(made.labels, labels(&[("a", "1")]));
    assert!(made.created_at.is_some() && made.created_at == made.updated_at);
    assert_eq!(m.get_container(get_container("box")).await.unwrap(), made);
    refused(m.create_container(create_container(container("box"))).await, Code::AlreadyExists, &["\"box\""]);
    refused(m.get_container(get_container("other")).await, Code::NotFound, &["container \"other\""]);
    for (bad, word) in [
        (msg::Container { id: "a b".into(), ..container("x") }, "a b"),
        (msg::Container { runtime: String::new(), ..container("x") }, "runtime"),
        (msg::Container { spec: None, ..container("x") }, "spec"),
        (msg::Container { snapshotter: String::new(), ..container("x") }, "snapshotter"),
        (
            msg::Container { extensions: [(String::new(), msg::Payload::default())].into(), ..container("x") },
            "extension",
        ),
        (msg::Container { image: "x".repeat(5000), ..container("x") }, "image"),
    ] {
        refused(m.create_container(create_container(bad)).await, Code::InvalidArgument, &[word]);
    }

    let payload = msg::Payload { type_url: "e".into(), value: vec![7] };
    let changed = msg::Container {
        image: "j".into(),
        labels: labels(&[("a", "2"), ("b", "3")]),
        extensions: [("x.y/z".to_owned(), payload.clone())].into(),
        snapshot_key: "other".into(),
        ..container("box")
    };
    let found = m.update_container(update_container(changed.clone(), &["labels.b", "extensions.x.y/z"])).await.unwrap();
    assert_eq!((found.image.as_str(), &found.labels), ("i", &labels(&[("a", "1"), ("b", "3")])));
    assert_eq!(found.extensions, [("x.y/z".to_owned(), payload)].into());
    assert!(found.updated_at != made.updated_at && found.created_at == made.created_at);
    let found = m.update_container(update_container(changed.clone(), &[])).await.unwrap();
    assert_eq!((found.image.as_str(), found.snapshot_key.as_str()), ("j", "other"));
    for (bad, paths) in [
        (changed.clone(), &["runtime"][..]),
        (msg::Container { runtime: "other".into(), ..changed.clone() }, &[]),
        (msg::Container { snapshotter: "native".into(), ..changed.clone() }, &[]),
        (msg::Container { spec: None, ..changed.clone() }, &["spec"]),
    ] {
        refused(
            m.update_container(update_container(bad, paths)).await,
            Code::InvalidArgument,
            &["box"][..usize::from(paths != ["runtime"])],
        );
    }
    refused(m.update_container(update_container(container("other"), &[])).await, Code::NotFound, &["other"]);

    let list = msg::ListContainersRequest { namespace: NS.into(), ..Default::default() };
    assert_eq!(m.list_containers(list).await.unwrap().containers, [found]);
    let drop = msg::DeleteContainerRequest { namespace: NS.into(), id: "box".into() };
    m.delete_container(drop.clone()).await.unwrap();
    refused(m.delete_container(drop).await, Code::NotFound, &["box"]);
    let events = home.events().await;
    assert_eq!(events.len(), 4);
    let first = json!({ "id": "box", "image": "i", "runtime": { "name": "io.containerd.runc.v2" } });
    assert_eq!(events[0], (NS.to_owned(), "/containers/create".to_owned(), first));
    assert_eq!(events[3], (NS.to_owned(), "/containers/delete".to_owned(), json!({ "id": "box" })));
}

/// A container keeps the chain of its snapshot, and what its labels name, from collection.
async fn what_a_container_stands_on_is_kept(home: Home) {
    let m = &home.metadata;
    let prepare = |key: &str, parent: &str| msg::PrepareSnapshotRequest {
        namespace: NS.into(),
        snapshotter: "overlay".into(),
        key: key.into(),
        parent: parent.into(),
        kind: msg::snapshot::Kind::Active.into(),
        ..Default::default()
    };
    let commit = |key: &str, name: &str| msg::CommitSnapshotRequest {
        namespace: NS.into(),
        snapshotter: "overlay".into(),
        key: key.into(),
        name: name.into(),
        ..Default::default()
    };
    for (name, parent) in [("below", ""), ("stood-on", "below"), ("lonely", "")] {
        m.prepare_snapshot(prepare("k", parent)).await.unwrap();
        m.commit_snapshot(commit("k", name)).await.unwrap();
    }
    let entry = |seed: &str| msg::put_content_request::Entry { digest: digest(seed), size: 1, ..Default::default() };
    let entries = vec![entry("named"), entry("lonely")];
    m.put_content(msg::PutContentRequest { namespace: NS.into(), entries, ..Default::default() }).await.unwrap();
    let named = labels(&[("containerd.io/gc.ref.content", &digest("named"))]);
    let kept = msg::Container { labels: named, snapshot_key: "stood-on".into(), ..container("box") };
    m.create_container(create_container(kept)).await.unwrap();

    let mark = m.mark(msg::MarkRequest::default()).await.unwrap();
    let request = msg::ListGarbageRequest { mark_id: mark.mark_id.clone(), ..Default::default() };
    let garbage: Vec<_> = m.list_garbage(request).await.unwrap().garbage.into_iter().map(|found| found.id).collect();
    assert_eq!(garbage, ["lonely".to_owned(), digest("lonely")]);
    // Under a mark in force a new container keeps what it names.
    let late = msg::Container { snapshot_key: "lonely".into(), ..container("late") };
    m.create_container(create_container(late)).await.unwrap();
    let swept = m.sweep(msg::SweepRequest { mark_id: mark.mark_id.clone(), limit: 0 }).await.unwrap();
    let removed: Vec<_> = swept.removed.into_iter().map(|found| found.id).collect();
    assert_eq!(removed, [digest("lonely")]);
    m.end_mark(msg::EndMarkRequest { mark_id: mark.mark_id }).await.unwrap();
    let explain =
        msg::ExplainRequest { namespace: NS.into(), r#type: "snapshots/overlay".into(), id: "stood-on".into() };
    let chain = m.explain(explain).await.unwrap().chain;
    assert_eq!(chain[0].because, "container box needs it");
}

async fn somebody_elses_events_are_passed_on(home: Home) {
    let m = &home.metadata;
    let payload = msg::Payload { type_url: "my.Event".into(), value: vec![1, 2] };
    let publish = |namespace: &str, topic: &str| msg::PublishEventRequest {
        namespace: namespace.into(),
        topic: topic.into(),
        payload: Some(payload.clone()),
        at: None,
    };
    m.publish_event(publish(NS, "/my/topic")).await.unwrap();
    let then = berth_wire::types::Time { seconds: 5, nanos: 6 };
    m.publish_event(msg::PublishEventRequest { at: Some(then), ..publish("other", "/tasks/exit") }).await.unwrap();
    for (namespace, topic) in [(NS, ""), (NS, "my/topic"), (NS, "/"), (NS, "/a//b"), ("a b", "/a")] {
        refused(m.publish_event(publish(namespace, topic)).await, Code::InvalidArgument, &[]);
    }
    let found = m.read_events(msg::ReadEventsRequest::default()).await.unwrap().events;
    let seen: Vec<_> =
        found.iter().map(|event| (event.sequence, event.topic.as_str(), event.payload.as_ref())).collect();
    assert_eq!(seen, [(1, "/my/topic", Some(&payload)), (2, "/tasks/exit", Some(&payload))]);
    assert_eq!(found[1].at, Some(then));
    assert!(names(&home).await.is_empty(), "an event makes no namespace");
}

crate::in_both_homes! {
    namespaces_are_made_labelled_and_ended
    a_namespace_that_holds_something_stays
    containers_are_kept_changed_and_dropped
    what_a_container_stands_on_is_kept
    somebody_elses_events_are_passed_on
}
