//! Leases.

use berth_model::Code;
use berth_wire::{metadata as msg, types};

use crate::homes::{Home, NS, digest, labels, refused};

fn create(id: &str, seconds: u64) -> msg::CreateLeaseRequest {
    msg::CreateLeaseRequest { namespace: NS.into(), id: id.into(), expires_in_seconds: seconds, ..Default::default() }
}

fn add(id: &str, resources: &[(&str, &str)]) -> msg::AddLeaseResourcesRequest {
    let resource = |pair: &(&str, &str)| msg::Resource { r#type: pair.0.into(), id: pair.1.into() };
    msg::AddLeaseResourcesRequest {
        namespace: NS.into(),
        id: id.into(),
        resources: resources.iter().map(resource).collect(),
    }
}

fn delete(id: &str) -> msg::DeleteLeaseRequest {
    msg::DeleteLeaseRequest { namespace: NS.into(), id: id.into() }
}

async fn list(home: &Home) -> Vec<msg::Lease> {
    let request = msg::ListLeasesRequest { namespace: NS.into(), ..Default::default() };
    home.metadata.list_leases(request).await.unwrap().leases
}

async fn a_lease_is_created_filled_and_deleted(home: Home) {
    let m = &home.metadata;
    let request = msg::CreateLeaseRequest { labels: labels(&[("a", "1")]), ..create("l", 0) };
    let created = m.create_lease(request).await.unwrap();
    assert_eq!((created.id.as_str(), &created.labels, created.expires_at), ("l", &labels(&[("a", "1")]), None));
    assert_eq!(list(&home).await, [created]);
    refused(m.create_lease(create("l", 0)).await, Code::AlreadyExists, &["lease \"l\"", "\"default\""]);

    let (x, all) = (digest("x"), ["ingests", "images", "snapshots/overlay"]);
    for _twice in 0..2 {
        m.add_lease_resources(add("l", &[("snapshots/overlay", "k"), ("content", &x)])).await.unwrap();
        m.add_lease_resources(add("l", &all.map(|r#type| (r#type, "k")))).await.unwrap();
    }
    let named: Vec<_> =
        list(&home).await.remove(0).resources.into_iter().map(|named| (named.r#type, named.id)).collect();
    let expected = [("content", x.as_str()), ("images", "k"), ("ingests", "k"), ("snapshots/overlay", "k")];
    assert_eq!(named, expected.map(|(r#type, id)| (r#type.to_owned(), id.to_owned())));

    m.delete_lease(delete("l")).await.unwrap();
    assert!(list(&home).await.is_empty());
    m.create_lease(create("l", 0)).await.unwrap();
    assert!(list(&home).await.remove(0).resources.is_empty(), "resources go with their lease");
    assert!(home.events().await.is_empty());
}

async fn an_empty_id_is_a_random_one(home: Home) {
    let m = &home.metadata;
    let (a, b) = (m.create_lease(create("", 0)).await.unwrap(), m.create_lease(create("", 0)).await.unwrap());
    assert!(!a.id.is_empty() && a.id != b.id);
    assert_eq!(list(&home).await.len(), 2);
}

async fn unknown_leases_and_types_are_refused(home: Home) {
    let m = &home.metadata;
    let words = ["lease \"l\"", "\"default\"", "not found"];
    refused(m.delete_lease(delete("l")).await, Code::NotFound, &words);
    refused(m.add_lease_resources(add("l", &[])).await, Code::NotFound, &words);
    m.create_lease(create("l", 0)).await.unwrap();
    for (r#type, id, code) in [
        ("containers", "x", Code::Unimplemented),
        ("snapshots", "x", Code::InvalidArgument),
        ("snapshots/a/b", "x", Code::InvalidArgument),
        ("content", "x", Code::InvalidArgument),
        ("images", "", Code::InvalidArgument),
    ] {
        refused(m.add_lease_resources(add("l", &[("images", "good"), (r#type, id)])).await, code, &[]);
    }
    assert!(list(&home).await.remove(0).resources.is_empty(), "all of them or none");
    refused(m.create_lease(create(&"x".repeat(5000), 0)).await, Code::InvalidArgument, &["id"]);
    let bad = msg::CreateLeaseRequest { labels: labels(&[("k", &"v".repeat(4096))]), ..create("m", 0) };
    refused(m.create_lease(bad).await, Code::InvalidArgument, &["label"]);
    let bad = msg::CreateLeaseRequest { namespace: String::new(), ..create("m", 0) };
    refused(m.create_lease(bad).await, Code::InvalidArgument, &["namespace"]);
}

async fn a_lease_says_when_it_ends(home: Home) {
    let m = &home.metadata;
    let before = types::Time::now();
    let lease = m.create_lease(create("l", 3600)).await.unwrap();
    let end = lease.expires_at.unwrap();
    assert!((before.seconds + 3600..=types::Time::now().seconds + 3600).contains(&end.seconds));
    assert_eq!(lease.labels.get("containerd.io/gc.expire"), Some(&end.to_string()));
    let label = labels(&[("containerd.io/gc.expire", "2100-01-02T03:04:05Z")]);
    let by_label = m.create_lease(msg::CreateLeaseRequest { labels: label.clone(), ..create("m", 0) }).await.unwrap();
    assert_eq!((by_label.expires_at.unwrap().to_string().as_str(), by_label.labels), ("2100-01-02T03:04:05Z", label));
}

async fn a_lease_whose_time_is_over_protects_nothing(home: Home) {
    let m = &home.metadata;
    let past = labels(&[("containerd.io/gc.expire", "2001-01-01T00:00:00Z")]);
    m.create_lease(msg::CreateLeaseRequest { labels: past, ..create("old", 0) }).await.unwrap();
    refused(m.add_lease_resources(add("old", &[("images", "a")])).await, Code::NotFound, &["time is over"]);

    // It named the digest while it ran.
    m.create_lease(create("l", 1)).await.unwrap();
    m.add_lease_resources(add("l", &[("content", &digest("x"))])).await.unwrap();
    let condemn = || m.condemn_content(msg::CondemnContentRequest { digest: digest("x") });
    let begun = std::time::Instant::now();
    while let Err(status) = condemn().await {
        assert_eq!(status.code, Code::FailedPrecondition);
        assert!(begun.elapsed().as_secs() < 20, "still {status}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(list(&home).await.len(), 2, "they are listed until they are deleted");
    let again = m.create_lease(create("l", 0)).await.unwrap();
    assert_eq!(again.expires_at, None, "its id is free");
    assert!(list(&home).await.remove(0).resources.is_empty());
}

async fn records_are_written_only_while_their_lease_runs(home: Home) {
    let m = &home.metadata;
    let past = labels(&[("containerd.io/gc.expire", "2001-01-01T00:00:00Z")]);
    m.create_lease(msg::CreateLeaseRequest { labels: past, ..create("old", 0) }).await.unwrap();
    m.create_lease(create("l", 0)).await.unwrap();
    let entry = msg::put_content_request::Entry { digest: digest("x"), size: 1, ..Default::default() };
    let content = |lease: &str| msg::PutContentRequest {
        namespace: NS.into(),
        entries: vec![entry.clone()],
        lease: lease.into(),
    };
    let target = types::Descriptor { media_type: "m".into(), digest: digest("x"), size: 1, ..Default::default() };
    let image = msg::Image { name: "i".into(), target: Some(target), ..Default::default() };
    let put_image = |lease: &str| msg::PutImageRequest {
        namespace: NS.into(),
        image: Some(image.clone()),
        lease: lease.into(),
        ..Default::default()
    };
    for (lease, words) in [("old", &["\"old\"", "time is over"][..]), ("none", &["\"none\""])] {
        refused(m.put_content(content(lease)).await, Code::NotFound, words);
        refused(m.put_image(put_image(lease)).await, Code::NotFound, words);
    }
    let get = || m.get_content(msg::GetContentRequest { namespace: NS.into(), digest: digest("x") });
    refused(get().await, Code::NotFound, &[]);
    m.put_content(content("l")).await.unwrap();
    m.put_image(put_image("l")).await.unwrap();
    get().await.unwrap();
}

async fn lists_come_in_pages_in_key_order(home: Home) {
    let m = &home.metadata;
    for n in (0..7).rev() {
        m.create_lease(create(&format!("l{n}"), 0)).await.unwrap();
    }
    let request = |after: &str| msg::ListLeasesRequest { namespace: NS.into(), after: after.into(), limit: 4 };
    let page = m.list_leases(request("")).await.unwrap();
    assert_eq!((page.leases.len(), page.more, page.leases[3].id.as_str()), (4, true, "l3"));
    let page = m.list_leases(request("l3")).await.unwrap();
    assert_eq!((page.leases.len(), page.more, page.leases[2].id.as_str()), (3, false, "l6"));
}

async fn a_lease_never_outgrows_a_reply(home: Home) {
    let m = &home.metadata;
    m.create_lease(create("l", 0)).await.unwrap();
    let long = |n: usize| format!("{n:05}{}", "x".repeat(4000));
    let mut named = 0;
    loop {
        let id = long(named);
        let result = m.add_lease_resources(add("l", &[("images", &id)])).await;
        if let Err(status) = result {
            assert_eq!(status.code, Code::ResourceExhausted, "{status}");
            break;
        }
        named += 1;
    }
    assert_eq!(list(&home).await.remove(0).resources.len(), named);
    assert!((100..130).contains(&named), "{named}");
}

async fn ingests_of_clients_go_by_the_namespace_of_their_lease(home: Home) {
    let m = &home.metadata;
    m.create_lease(create("l", 0)).await.unwrap();
    m.add_lease_resources(add("l", &[("ingests", "layer-x"), ("ingests", "a/b")])).await.unwrap();
    let ids = ["layer-x", &format!("{NS}/layer-x"), "other/layer-x", &format!("{NS}/a/b"), "a/b", "b"];
    let resources = ids.iter().map(|id| msg::Resource { r#type: "ingests".into(), id: (*id).to_owned() }).collect();
    let found = m.leased(msg::LeasedRequest { resources }).await.unwrap().resources;
    let found: Vec<_> = found.iter().map(|named| named.id.as_str()).collect();
    assert_eq!(found, [ids[0], ids[1], ids[3], ids[4]]);
}

crate::in_both_homes! {
    ingests_of_clients_go_by_the_namespace_of_their_lease
    a_lease_is_created_filled_and_deleted
    an_empty_id_is_a_random_one
    unknown_leases_and_types_are_refused
    a_lease_says_when_it_ends
    a_lease_whose_time_is_over_protects_nothing
    records_are_written_only_while_their_lease_runs
    lists_come_in_pages_in_key_order
    a_lease_never_outgrows_a_reply
}
