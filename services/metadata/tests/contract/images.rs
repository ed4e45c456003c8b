//! Images.

use berth_model::Code;
use berth_wire::{metadata as msg, types};
use msg::put_image_request::Mode;
use serde_json::json;

use crate::homes::{Home, NS, digest, labels, refused};

fn image(name: &str, seed: &str) -> msg::Image {
    let target = types::Descriptor {
        media_type: "application/vnd.oci.image.index.v1+json".into(),
        digest: digest(seed),
        size: 7,
        ..types::Descriptor::default()
    };
    msg::Image { name: name.into(), target: Some(target), ..msg::Image::default() }
}

fn put(namespace: &str, image: msg::Image, mode: Mode) -> msg::PutImageRequest {
    let mode = mode.into();
    msg::PutImageRequest { namespace: namespace.into(), image: Some(image), mode, ..Default::default() }
}

fn get(namespace: &str, name: &str) -> msg::GetImageRequest {
    msg::GetImageRequest { namespace: namespace.into(), name: name.into() }
}

fn delete(name: &str, target: &str) -> msg::DeleteImageRequest {
    msg::DeleteImageRequest { namespace: NS.into(), name: name.into(), target: target.into() }
}

async fn an_image_is_created_updated_and_deleted(home: Home) {
    let m = &home.metadata;
    let wanted = msg::Image { labels: labels(&[("a", "1")]), ..image("n", "x") };
    let created = m.put_image(put(NS, wanted.clone(), Mode::Create)).await.unwrap();
    assert_eq!((&created.name, &created.labels, &created.target), (&wanted.name, &wanted.labels, &wanted.target));
    assert!(created.created_at.is_some() && created.created_at == created.updated_at);
    assert_eq!(m.get_image(get(NS, "n")).await.unwrap(), created);

    let updated = m.put_image(put(NS, image("n", "y"), Mode::Update)).await.unwrap();
    assert_eq!(updated.created_at, created.created_at);
    assert!(updated.updated_at.unwrap().millis() >= created.updated_at.unwrap().millis());
    assert_ne!(updated.updated_at, created.updated_at);
    assert!(updated.labels.is_empty(), "a put replaces");
    assert_eq!(m.get_image(get(NS, "n")).await.unwrap(), updated);

    m.delete_image(delete("n", "")).await.unwrap();
    refused(m.get_image(get(NS, "n")).await, Code::NotFound, &["image \"n\"", "namespace \"default\""]);
    let event = |topic: &str, facts| (NS.to_owned(), topic.to_owned(), facts);
    assert_eq!(
        home.events().await,
        [
            event("/images/create", json!({ "name": "n", "labels": { "a": "1" } })),
            event("/images/update", json!({ "name": "n" })),
            event("/images/delete", json!({ "name": "n" })),
        ]
    );
}

async fn modes_decide(home: Home) {
    let m = &home.metadata;
    refused(m.put_image(put(NS, image("n", "x"), Mode::Update)).await, Code::NotFound, &["image \"n\""]);
    let first = m.put_image(put(NS, image("n", "x"), Mode::Upsert)).await.unwrap();
    let words = ["image \"n\"", "\"default\"", "already exists"];
    refused(m.put_image(put(NS, image("n", "x"), Mode::Create)).await, Code::AlreadyExists, &words);
    let again = m.put_image(put(NS, image("n", "x"), Mode::Upsert)).await.unwrap();
    assert_eq!(again.created_at, first.created_at);
    assert_ne!(again.updated_at, first.updated_at, "a re-pull counts as an update");
    assert_eq!(home.topics().await, ["/images/create", "/images/update"]);
}

async fn a_delete_may_name_the_target(home: Home) {
    let m = &home.metadata;
    refused(m.delete_image(delete("n", "")).await, Code::NotFound, &["image \"n\""]);
    m.put_image(put(NS, image("n", "x"), Mode::Create)).await.unwrap();
    refused(m.delete_image(delete("n", &digest("y"))).await, Code::NotFound, &[&digest("y")]);
    refused(m.delete_image(delete("n", "sha256:zz")).await, Code::InvalidArgument, &["sha256:zz"]);
    m.delete_image(delete("n", &digest("x"))).await.unwrap();
}

async fn bad_images_are_refused(home: Home) {
    let m = &home.metadata;
    let good = image("n", "x");
    let target = |change: fn(&mut types::Descriptor)| {
        let mut bad = image("n", "x");
        change(bad.target.as_mut().unwrap());
        bad
    };
    for (bad, word) in [
        (msg::Image { name: String::new(), ..good.clone() }, "name"),
        (msg::Image { name: "x".repeat(5000), ..good.clone() }, "name"),
        (msg::Image { target: None, ..good.clone() }, "target"),
        (target(|target| target.size = 0), "size"),
        (target(|target| target.media_type.clear()), "media type"),
        (target(|target| target.digest = "md5:abc".into()), "md5:abc"),
        (msg::Image { labels: labels(&[("k", &"v".repeat(4096))]), ..good.clone() }, "label"),
    ] {
        refused(m.put_image(put(NS, bad, Mode::Upsert)).await, Code::InvalidArgument, &[word]);
    }
    let no_image = msg::PutImageRequest { namespace: NS.into(), ..Default::default() };
    refused(m.put_image(no_image).await, Code::InvalidArgument, &["image is missing"]);
    let no_mode =
        msg::PutImageRequest { namespace: NS.into(), image: Some(good.clone()), mode: 9, ..Default::default() };
    refused(m.put_image(no_mode).await, Code::InvalidArgument, &["mode"]);
    for namespace in ["", "a b", "../x"] {
        refused(m.put_image(put(namespace, good.clone(), Mode::Upsert)).await, Code::InvalidArgument, &["namespace"]);
        refused(m.get_image(get(namespace, "n")).await, Code::InvalidArgument, &["namespace"]);
    }
    refused(m.get_image(get(NS, "")).await, Code::InvalidArgument, &["name"]);
    assert!(home.events().await.is_empty());
    assert!(m.list_namespaces(msg::ListNamespacesRequest::default()).await.unwrap().namespaces.is_empty());
}

async fn namespaces_do_not_see_each_other(home: Home) {
    let m = &home.metadata;
    for (namespace, seed) in [("a", "x"), ("b", "y"), ("k8s.io", "z")] {
        m.put_image(put(namespace, image("n", seed), Mode::Create)).await.unwrap();
    }
    assert_eq!(m.get_image(get("b", "n")).await.unwrap().target.unwrap().digest, digest("y"));
    refused(m.get_image(get("c", "n")).await, Code::NotFound, &["\"c\""]);
    let list = msg::ListImagesRequest { namespace: "a".into(), ..msg::ListImagesRequest::default() };
    assert_eq!(m.list_images(list).await.unwrap().images.len(), 1);
    m.delete_image(msg::DeleteImageRequest { namespace: "b".into(), name: "n".into(), target: String::new() })
        .await
        .unwrap();
    let all = m.list_namespaces(msg::ListNamespacesRequest::default()).await.unwrap().namespaces;
    let all: Vec<_> = all.into_iter().map(|namespace| namespace.name).collect();
    assert_eq!(all, ["a", "b", "k8s.io"], "a namespace outlives what was in it");
}

async fn lists_come_in_pages_in_key_order(home: Home) {
    let m = &home.metadata;
    for n in (0..150).rev() {
        m.put_image(put(NS, image(&format!("i{n:03}"), "x"), Mode::Create)).await.unwrap();
    }
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let page = m.list_images(msg::ListImagesRequest { namespace: NS.into(), after, limit: 70 }).await.unwrap();
        assert!(page.images.len() <= 70);
        names.extend(page.images.into_iter().map(|image| image.name));
        if !page.more {
            break;
        }
        after = names.last().unwrap().clone();
    }
    assert_eq!(names, (0..150).map(|n| format!("i{n:03}")).collect::<Vec<_>>());
    let whole = m.list_images(msg::ListImagesRequest { namespace: NS.into(), ..Default::default() }).await.unwrap();
    assert_eq!((whole.images.len(), whole.more), (150, false));
}

async fn a_page_of_large_records_stays_below_what_the_bus_carries(home: Home) {
    let m = &home.metadata;
    let many = (0..60).map(|n| (format!("k{n}"), "v".repeat(4000))).collect::<berth_model::labels::Labels>();
    for n in 0..5 {
        let large = msg::Image { labels: many.clone(), ..image(&format!("i{n}"), "x") };
        m.put_image(put(NS, large, Mode::Create)).await.unwrap();
    }
    let page = m.list_images(msg::ListImagesRequest { namespace: NS.into(), ..Default::default() }).await.unwrap();
    assert_eq!((page.images.len(), page.more), (2, true));
    let reply = m.read_events(msg::ReadEventsRequest::default()).await.unwrap();
    assert_eq!((reply.events.len(), reply.last), (2, 5));
}

crate::in_both_homes! {
    an_image_is_created_updated_and_deleted
    modes_decide
    a_delete_may_name_the_target
    bad_images_are_refused
    namespaces_do_not_see_each_other
    lists_come_in_pages_in_key_order
    a_page_of_large_records_stays_below_what_the_bus_carries
}
