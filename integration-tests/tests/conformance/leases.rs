//! The leases service, and what other services do under a lease.

use std::time::SystemTime;

use berth_model::Code;
use berth_wire::containerd::leases as api;

use crate::{
    home::{Home, NS, between, digest, labels, refused, words},
    writer::{Writer, commit, put, stat, write},
};

fn create(id: &str, pairs: &[(&str, &str)]) -> api::CreateRequest {
    api::CreateRequest { id: id.into(), labels: labels(pairs) }
}

fn resource(r#type: &str, id: &str) -> Option<api::Resource> {
    Some(api::Resource { r#type: r#type.into(), id: id.into() })
}

fn add(lease: &str, r#type: &str, id: &str) -> api::AddResourceRequest {
    api::AddResourceRequest { id: lease.into(), resource: resource(r#type, id) }
}

async fn resources(home: &Home, lease: &str) -> Vec<(String, String)> {
    let request = api::ListResourcesRequest { id: lease.into() };
    let found = home.leases(NS).list_resources(request).await.unwrap().into_inner().resources;
    found.into_iter().map(|named| (named.r#type, named.id)).collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(r#type, id)| ((*r#type).to_owned(), (*id).to_owned())).collect()
}

async fn leases_are_made_listed_and_deleted(home: Home) {
    let mut client = home.leases(NS);
    let before = SystemTime::now();
    let made = client.create(create("one", &[("k", "v")])).await.unwrap().into_inner().lease.unwrap();
    assert_eq!((made.id.as_str(), &made.labels), ("one", &labels(&[("k", "v")])));
    between(made.created_at.as_ref(), before, SystemTime::now());
    refused(client.create(create("one", &[])).await, Code::AlreadyExists, "\"one\"");
    refused(client.create(create("two", &[("k", &"v".repeat(4096))])).await, Code::InvalidArgument, "label");
    let random = client.create(create("", &[("k", "w")])).await.unwrap().into_inner().lease.unwrap();
    assert!(!random.id.is_empty() && random.id != "one");
    home.leases("other").create(create("one", &[])).await.unwrap();
    for (filters, count) in
        [(&[][..], 2), (&["id==one"], 1), (&["labels.k==w"], 1), (&["labels.k"], 2), (&["id==x", "labels.k==v"], 1)]
    {
        let found = client.list(api::ListRequest { filters: words(filters) }).await.unwrap().into_inner().leases;
        assert_eq!(found.len(), count, "{filters:?}");
    }
    refused(client.list(api::ListRequest { filters: words(&["id=="]) }).await, Code::InvalidArgument, "filter");
    client.delete(api::DeleteRequest { id: "one".into(), sync: false }).await.unwrap();
    refused(client.delete(api::DeleteRequest { id: "one".into(), sync: false }).await, Code::NotFound, "\"one\"");
    refused(client.delete(api::DeleteRequest::default()).await, Code::InvalidArgument, "id");
    client.create(create("one", &[])).await.unwrap();
}

async fn resources_are_added_listed_and_taken_off(home: Home) {
    let mut client = home.leases(NS);
    client.create(create("l", &[])).await.unwrap();
    let blob = digest(b"x");
    let all = [
        ("content", blob.as_str()),
        ("images", "i"),
        ("ingests", "r"),
        ("snapshots/native", "a"),
        ("snapshots/overlayfs", "k"),
    ];
    for _twice in 0..2 {
        for (r#type, id) in all.iter().rev() {
            client.add_resource(add("l", r#type, id)).await.unwrap();
        }
    }
    assert_eq!(resources(&home, "l").await, pairs(&all), "sorted, each once, whether it is there or not");
    for (r#type, code) in [
        ("snapshots", Code::InvalidArgument),
        ("snapshots/a/b", Code::InvalidArgument),
        ("containers", Code::Unimplemented),
        ("", Code::Unimplemented),
    ] {
        refused(client.add_resource(add("l", r#type, "x")).await, code, "");
    }
    refused(client.add_resource(add("l", "content", "x")).await, Code::InvalidArgument, "digest");
    refused(client.add_resource(add("gone", "images", "x")).await, Code::NotFound, "gone");
    let nothing = api::AddResourceRequest { id: "l".into(), resource: None };
    refused(client.add_resource(nothing).await, Code::InvalidArgument, "resource");
    let take = |lease: &str| api::DeleteResourceRequest { id: lease.into(), resource: resource("images", "i") };
    for _twice in 0..2 {
        client.delete_resource(take("l")).await.unwrap();
    }
    assert_eq!(resources(&home, "l").await.len(), 4);
    refused(client.delete_resource(take("gone")).await, Code::NotFound, "gone");
    refused(client.list_resources(api::ListResourcesRequest { id: "gone".into() }).await, Code::NotFound, "gone");
}

/// What is written under a lease is the lease's, from the first byte on.
async fn what_is_written_under_a_lease_is_leased(home: Home) {
    home.leases(NS).create(create("l", &[])).await.unwrap();
    let begin = || async { Writer::on(home.wire(NS, "l")).await.unwrap() };
    let mut writer = begin().await;
    writer.say(stat("r", "", 0)).await.unwrap();
    assert_eq!(resources(&home, "l").await, pairs(&[("ingests", "r")]));
    writer.say(write(0, b"abc")).await.unwrap();
    let blob = writer.say(commit(3, 3, "")).await.unwrap().digest;
    assert_eq!(resources(&home, "l").await, pairs(&[("content", &blob)]));
    // Also what is there already, and what another namespace lends.
    let there = put(&home, NS, "t", b"there").await;
    refused(begin().await.say(stat("x", &there, 0)).await, Code::AlreadyExists, &there);
    let lent = put(&home, "other", "o", b"lent").await;
    begin().await.say(stat("y", &lent, 0)).await.unwrap();
    let mut expected = vec![blob.clone(), there, lent.clone()];
    expected.sort();
    let found: Vec<_> = resources(&home, "l").await.into_iter().map(|(_, id)| id).collect();
    assert_eq!(found, expected);
    let begun = begin().await.say(stat("z", "", 0)).await;
    begun.unwrap();
    assert!(resources(&home, "l").await.contains(&("ingests".to_owned(), "z".to_owned())));
    let gone = begin_with(&home, "gone").await.say(stat("q", "", 0)).await;
    refused(gone, Code::NotFound, "lease does not exist");
    // A deletion or an abort under the lease takes it off.
    let mut content = berth_wire::containerd::content::content_client::ContentClient::new(home.wire(NS, "l"));
    content.delete(berth_wire::containerd::content::DeleteContentRequest { digest: blob.clone() }).await.unwrap();
    assert!(!resources(&home, "l").await.iter().any(|(_, id)| *id == blob));

    // A lease that ends, and waits for it, takes what only it kept.
    let files = home.blob_files();
    home.leases(NS).delete(api::DeleteRequest { id: "l".into(), sync: true }).await.unwrap();
    assert!(home.blob_files() < files, "{files} files were there");
}

async fn begin_with(home: &Home, lease: &str) -> Writer {
    Writer::on(home.wire(NS, lease)).await.unwrap()
}

crate::in_every_home! {
    leases_are_made_listed_and_deleted
    resources_are_added_listed_and_taken_off
    what_is_written_under_a_lease_is_leased
}
