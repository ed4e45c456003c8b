//! The containers service.

use berth_model::Code;
use berth_wire::containerd::containers as api;
use prost_types::Any;

use crate::home::{Home, NS, labels, mask, refused, words};

fn container(id: &str) -> api::Container {
    api::Container {
        id: id.into(),
        labels: labels(&[("k", "1")]),
        image: "docker.io/library/a:1".into(),
        runtime: Some(api::container::Runtime { name: "runc".into(), options: Some(payload("options", b"o")) }),
        spec: Some(payload("spec", b"{}")),
        snapshotter: "overlayfs".into(),
        snapshot_key: id.into(),
        extensions: [("e".to_owned(), payload("e", b"1"))].into(),
        sandbox: "s".into(),
        ..Default::default()
    }
}

fn payload(type_url: &str, value: &[u8]) -> Any {
    Any { type_url: type_url.into(), value: value.to_vec() }
}

fn create(container: api::Container) -> api::CreateContainerRequest {
    api::CreateContainerRequest { container: Some(container) }
}

fn update(container: api::Container, paths: &[&str]) -> api::UpdateContainerRequest {
    api::UpdateContainerRequest { container: Some(container), update_mask: mask(paths) }
}

async fn ids(home: &Home, filters: &[&str]) -> Vec<String> {
    let request = api::ListContainersRequest { filters: words(filters), quiet: false };
    let listed = home.containers(NS).list(request.clone()).await.unwrap().into_inner().containers;
    let mut stream = home.containers(NS).list_stream(request).await.unwrap().into_inner();
    for container in &listed {
        assert_eq!(stream.message().await.unwrap().unwrap().container.as_ref(), Some(container));
    }
    assert_eq!(stream.message().await.unwrap(), None);
    listed.into_iter().map(|container| container.id).collect()
}

async fn containers_are_records(home: Home) {
    let mut client = home.containers(NS);
    let made = client.create(create(container("a"))).await.unwrap().into_inner().container.unwrap();
    let expected = api::Container { created_at: made.created_at, updated_at: made.updated_at, ..container("a") };
    assert_eq!(made, expected, "what was given, with its times");
    let get = |id: &str| api::GetContainerRequest { id: id.into() };
    assert_eq!(client.get(get("a")).await.unwrap().into_inner().container.unwrap(), made);
    refused(client.get(get("b")).await, Code::NotFound, "\"b\"");
    refused(client.create(create(container("a"))).await, Code::AlreadyExists, "\"a\"");
    refused(
        client.create(create(api::Container { spec: None, ..container("b") })).await,
        Code::InvalidArgument,
        "spec",
    );
    refused(client.create(api::CreateContainerRequest::default()).await, Code::InvalidArgument, "container");

    let changed = api::Container { image: "b:2".into(), labels: labels(&[("k", "2")]), ..container("a") };
    let found = client.update(update(changed.clone(), &["image"])).await.unwrap().into_inner().container.unwrap();
    assert_eq!((found.image.as_str(), &found.labels), ("b:2", &labels(&[("k", "1")])));
    let found = client.update(update(changed.clone(), &[])).await.unwrap().into_inner().container.unwrap();
    assert_eq!(found.labels, labels(&[("k", "2")]));
    refused(client.update(update(changed.clone(), &["id"])).await, Code::InvalidArgument, "id");
    let other = api::Container { snapshotter: "native".into(), ..changed };
    refused(client.update(update(other, &[])).await, Code::InvalidArgument, "snapshotter");
    refused(client.update(update(container("b"), &[])).await, Code::NotFound, "\"b\"");

    client.create(create(container("b"))).await.unwrap();
    for (filters, found) in [
        (&[][..], &["a", "b"][..]),
        (&["id==b"], &["b"]),
        (&["labels.k==2"], &["a"]),
        (&["runtime.name==runc,image~=library"], &["b"]),
    ] {
        assert_eq!(ids(&home, filters).await, found, "{filters:?}");
    }
    client.delete(api::DeleteContainerRequest { id: "a".into() }).await.unwrap();
    refused(client.delete(api::DeleteContainerRequest { id: "a".into() }).await, Code::NotFound, "\"a\"");
    assert_eq!(ids(&home, &[]).await, ["b"]);
}

crate::in_every_home! {
    containers_are_records
}
