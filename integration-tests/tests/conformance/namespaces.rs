//! The namespaces service.

use berth_model::Code;
use berth_wire::containerd::{containers, images, leases, namespaces as api, types::Descriptor};

use crate::{
    home::{Home, digest, labels, mask, refused},
    writer::{Writer, put, stat},
};

fn named(name: &str, pairs: &[(&str, &str)]) -> Option<api::Namespace> {
    Some(api::Namespace { name: name.into(), labels: labels(pairs) })
}

fn create(name: &str, pairs: &[(&str, &str)]) -> api::CreateNamespaceRequest {
    api::CreateNamespaceRequest { namespace: named(name, pairs) }
}

fn update(name: &str, pairs: &[(&str, &str)], paths: &[&str]) -> api::UpdateNamespaceRequest {
    api::UpdateNamespaceRequest { namespace: named(name, pairs), update_mask: mask(paths) }
}

fn delete(name: &str) -> api::DeleteNamespaceRequest {
    api::DeleteNamespaceRequest { name: name.into() }
}

async fn get(home: &Home, name: &str) -> api::Namespace {
    let request = api::GetNamespaceRequest { name: name.into() };
    home.namespaces().get(request).await.unwrap().into_inner().namespace.unwrap()
}

async fn names(home: &Home, filter: &str) -> Vec<String> {
    let request = api::ListNamespacesRequest { filter: filter.into() };
    let found = home.namespaces().list(request).await.unwrap().into_inner().namespaces;
    found.into_iter().map(|namespace| namespace.name).collect()
}

async fn namespaces_are_made_labelled_and_ended(home: Home) {
    let mut client = home.namespaces();
    let made = client.create(create("a", &[("k", "v"), ("empty", "")])).await.unwrap().into_inner().namespace;
    assert_eq!(made, named("a", &[("k", "v")]));
    refused(client.create(create("a", &[])).await, Code::AlreadyExists, "\"a\"");
    for bad in ["", "a b", "-a", "a..b", &"x".repeat(77)] {
        refused(client.create(create(bad, &[])).await, Code::InvalidArgument, "name");
        refused(client.get(api::GetNamespaceRequest { name: bad.into() }).await, Code::InvalidArgument, "name");
    }
    refused(client.create(create("b", &[("k", &"v".repeat(4096))])).await, Code::InvalidArgument, "label");
    refused(client.create(api::CreateNamespaceRequest::default()).await, Code::InvalidArgument, "namespace");
    // Clients ask for a namespace's defaults before there is one.
    assert_eq!(get(&home, "nowhere").await, named("nowhere", &[]).unwrap());

    client.update(update("a", &[("l", "2")], &["labels.l", "labels.k"])).await.unwrap();
    assert_eq!(get(&home, "a").await, named("a", &[("l", "2")]).unwrap());
    client.update(update("a", &[("m", "3")], &[])).await.unwrap();
    assert_eq!(get(&home, "a").await, named("a", &[("m", "3")]).unwrap());
    refused(client.update(update("a", &[], &["name"])).await, Code::InvalidArgument, "name");
    put(&home, "made.by-use", "r", b"x").await;
    assert_eq!(names(&home, "").await, ["a", "made.by-use"]);
    assert_eq!(names(&home, "labels.m==3").await, ["a"]);
    assert_eq!(names(&home, "name~=use$").await, ["made.by-use"]);
    refused(client.list(api::ListNamespacesRequest { filter: "name=".into() }).await, Code::InvalidArgument, "filter");
    client.delete(delete("a")).await.unwrap();
    refused(client.delete(delete("a")).await, Code::NotFound, "\"a\"");
}

async fn only_an_empty_one_ends(home: Home) {
    let blob = put(&home, "full", "r", b"x").await;
    let target = Descriptor { media_type: "m".into(), digest: digest(b"x"), size: 1, ..Default::default() };
    let image = images::Image { name: "pic".into(), target: Some(target), ..Default::default() };
    let request = images::CreateImageRequest { image: Some(image), source_date_epoch: None };
    home.images("full").create(request).await.unwrap();
    let container = containers::Container {
        id: "box".into(),
        runtime: Some(containers::container::Runtime { name: "r".into(), options: None }),
        spec: Some(prost_types::Any { type_url: "s".into(), value: Vec::new() }),
        ..Default::default()
    };
    let request = containers::CreateContainerRequest { container: Some(container) };
    home.containers("full").create(request).await.unwrap();
    let mut client = home.namespaces();
    for word in ["images (pic)", "blobs (sha256:", "containers (box)", "must be empty, but it still has"] {
        refused(client.delete(delete("full")).await, Code::FailedPrecondition, word);
    }
    home.images("full").delete(images::DeleteImageRequest { name: "pic".into(), ..Default::default() }).await.unwrap();
    home.containers("full").delete(containers::DeleteContainerRequest { id: "box".into() }).await.unwrap();
    refused(client.delete(delete("full")).await, Code::FailedPrecondition, "blobs");
    let request = berth_wire::containerd::content::DeleteContentRequest { digest: blob };
    home.content("full").delete(request).await.unwrap();
    // Leases and ingests do not count; they go with it.
    home.leases("full").create(leases::CreateRequest::default()).await.unwrap();
    let (writer, _) = Writer::open(&home, "full", stat("r", "", 0)).await.unwrap();
    writer.close().await;
    assert_eq!(home.ingest_dirs(), 1);
    client.delete(delete("full")).await.unwrap();
    assert_eq!(home.ingest_dirs(), 0);
    assert_eq!(names(&home, "").await, Vec::<String>::new());
    let left = home.leases("full").list(leases::ListRequest::default()).await.unwrap().into_inner().leases;
    assert!(left.is_empty());
}

crate::in_every_home! {
    namespaces_are_made_labelled_and_ended
    only_an_empty_one_ends
}
