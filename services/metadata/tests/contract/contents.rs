//! Content records and condemnations.

use berth_model::Code;
use berth_wire::metadata as msg;
use msg::put_content_request::Entry;
use serde_json::json;

use crate::homes::{Home, NS, digest, labels, refused};

fn entry(seed: &str, size: u64, pairs: &[(&str, &str)]) -> Entry {
    Entry { digest: digest(seed), size, labels: labels(pairs), ..Entry::default() }
}

fn put(namespace: &str, entries: Vec<Entry>) -> msg::PutContentRequest {
    msg::PutContentRequest { namespace: namespace.into(), entries, ..Default::default() }
}

fn get(namespace: &str, seed: &str) -> msg::GetContentRequest {
    msg::GetContentRequest { namespace: namespace.into(), digest: digest(seed) }
}

fn delete(namespace: &str, seed: &str) -> msg::DeleteContentRequest {
    msg::DeleteContentRequest { namespace: namespace.into(), digest: digest(seed) }
}

fn condemn(seed: &str) -> msg::CondemnContentRequest {
    msg::CondemnContentRequest { digest: digest(seed) }
}

async fn records_are_made_merged_and_dropped(home: Home) {
    let m = &home.metadata;
    let typed = Entry { media_type: "m".into(), ..entry("x", 7, &[("a", "1"), ("b", "2")]) };
    m.put_content(put(NS, vec![typed, entry("empty", 0, &[])])).await.unwrap();
    let first = m.get_content(get(NS, "x")).await.unwrap();
    assert_eq!((first.digest.clone(), first.size), (digest("x"), 7));
    assert_eq!(first.labels, labels(&[("a", "1"), ("b", "2")]));

    m.put_content(put(NS, vec![entry("x", 0, &[("a", ""), ("c", "3")])])).await.unwrap();
    let second = m.get_content(get(NS, "x")).await.unwrap();
    assert_eq!(second.labels, labels(&[("b", "2"), ("c", "3")]));
    assert_eq!((second.size, second.created_at), (7, first.created_at));
    assert_ne!(second.updated_at, first.updated_at);

    m.put_content(put(NS, vec![entry("x", 7, &[("b", "2")])])).await.unwrap();
    assert_eq!(m.get_content(get(NS, "x")).await.unwrap(), second, "what changes nothing leaves no trace");

    m.delete_content(delete(NS, "x")).await.unwrap();
    refused(m.get_content(get(NS, "x")).await, Code::NotFound, &[&digest("x"), "\"default\""]);
    refused(m.delete_content(delete(NS, "x")).await, Code::NotFound, &[&digest("x"), "\"default\""]);
    let event = |topic: &str, facts| (NS.to_owned(), topic.to_owned(), facts);
    assert_eq!(
        home.events().await,
        [
            event("/content/create", json!({ "digest": digest("x"), "size": 7, "media_type": "m" })),
            event("/content/create", json!({ "digest": digest("empty"), "size": 0 })),
            event("/content/delete", json!({ "digest": digest("x") })),
        ]
    );
}

async fn sources_are_sets(home: Home) {
    let m = &home.metadata;
    let key = "containerd.io/distribution.source.docker.io";
    for repository in ["library/b", "library/a", "library/b"] {
        let from = Entry { source_key: key.into(), source_repository: repository.into(), ..entry("x", 7, &[]) };
        m.put_content(put(NS, vec![from])).await.unwrap();
    }
    assert_eq!(m.get_content(get(NS, "x")).await.unwrap().labels, labels(&[(key, "library/a,library/b")]));
    let half = Entry { source_key: key.into(), ..entry("x", 7, &[]) };
    refused(m.put_content(put(NS, vec![half])).await, Code::InvalidArgument, &["source"]);
}

async fn bad_entries_are_refused_with_all_others(home: Home) {
    let m = &home.metadata;
    m.put_content(put(NS, vec![entry("x", 7, &[])])).await.unwrap();
    for (bad, word) in [
        (Entry { digest: "sha256:zz".into(), ..Entry::default() }, "sha256:zz"),
        (entry("y", 7, &[("k", &"v".repeat(4096))]), "label"),
        (entry("x", 8, &[]), "7 bytes"),
    ] {
        let entries = vec![entry("good", 1, &[]), bad];
        refused(m.put_content(put(NS, entries)).await, Code::InvalidArgument, &[word]);
    }
    refused(m.get_content(get(NS, "good")).await, Code::NotFound, &[]);
    refused(m.put_content(put("a b", vec![])).await, Code::InvalidArgument, &["namespace"]);
    let bad = msg::GetContentRequest { namespace: NS.into(), digest: "x".into() };
    refused(m.get_content(bad).await, Code::InvalidArgument, &["digest"]);
    assert_eq!(home.topics().await.len(), 1);
}

async fn of_many_those_are_told_that_the_namespace_has(home: Home) {
    let m = &home.metadata;
    m.put_content(put(NS, vec![entry("x", 7, &[]), entry("y", 7, &[])])).await.unwrap();
    m.put_content(put("other", vec![entry("z", 7, &[])])).await.unwrap();
    let ask = |digests: Vec<String>| m.known_contents(msg::KnownContentsRequest { namespace: NS.into(), digests });
    let told = ask(["z", "y", "nobody's", "x"].map(digest).into()).await.unwrap().digests;
    assert_eq!(told, ["y", "x"].map(digest));
    assert_eq!(ask(Vec::new()).await.unwrap().digests, Vec::<String>::new());
    refused(ask(vec!["odd".into()]).await, Code::InvalidArgument, &["digest"]);
    refused(ask(vec![digest("x"); 4097]).await, Code::InvalidArgument, &["4097"]);
}

async fn one_request_may_name_a_digest_twice(home: Home) {
    let m = &home.metadata;
    m.put_content(put(NS, vec![entry("x", 7, &[("a", "1")]), entry("x", 7, &[("b", "2")])])).await.unwrap();
    assert_eq!(m.get_content(get(NS, "x")).await.unwrap().labels, labels(&[("a", "1"), ("b", "2")]));
    assert_eq!(home.topics().await, ["/content/create"]);
}

async fn lists_come_in_pages_in_key_order(home: Home) {
    let m = &home.metadata;
    let mut all: Vec<String> = (0..150).map(|n| digest(&format!("{n}"))).collect();
    m.put_content(put(NS, (0..150).map(|n| entry(&format!("{n}"), 1, &[])).collect())).await.unwrap();
    all.sort();
    let (mut digests, mut after) = (Vec::new(), String::new());
    loop {
        let request = msg::ListContentRequest { namespace: NS.into(), after, limit: 64 };
        let page = m.list_content(request).await.unwrap();
        digests.extend(page.contents.into_iter().map(|content| content.digest));
        if !page.more {
            break;
        }
        after = digests.last().unwrap().clone();
    }
    assert_eq!(digests, all);
    let bad = msg::ListContentRequest { namespace: NS.into(), after: "x".into(), limit: 0 };
    refused(m.list_content(bad).await, Code::InvalidArgument, &["digest"]);
}

async fn what_is_recorded_cannot_be_condemned(home: Home) {
    let m = &home.metadata;
    for namespace in ["a", "b"] {
        m.put_content(put(namespace, vec![entry("x", 7, &[])])).await.unwrap();
    }
    refused(m.condemn_content(condemn("x")).await, Code::FailedPrecondition, &["in use", "\"a\""]);
    m.delete_content(delete("a", "x")).await.unwrap();
    refused(m.condemn_content(condemn("x")).await, Code::FailedPrecondition, &["in use", "\"b\""]);
    m.delete_content(delete("b", "x")).await.unwrap();
    let until = m.condemn_content(condemn("x")).await.unwrap().until.unwrap();
    let left = until.millis() - berth_wire::types::Time::now().millis();
    assert!((10_000..=20_000).contains(&left), "{left} ms");
}

async fn what_is_condemned_cannot_be_recorded_or_leased(home: Home) {
    let m = &home.metadata;
    m.create_lease(msg::CreateLeaseRequest { namespace: NS.into(), id: "l".into(), ..Default::default() })
        .await
        .unwrap();
    let lease = msg::AddLeaseResourcesRequest {
        namespace: NS.into(),
        id: "l".into(),
        resources: vec![msg::Resource { r#type: "content".into(), id: digest("x") }],
    };
    let until = m.condemn_content(condemn("x")).await.unwrap().until;
    let absolve = |until| m.absolve_content(msg::AbsolveContentRequest { digest: digest("x"), until });
    let words = [&digest("x"), "is being deleted, try again"];
    refused(m.put_content(put(NS, vec![entry("x", 7, &[])])).await, Code::Unavailable, &words);
    refused(m.add_lease_resources(lease.clone()).await, Code::Unavailable, &words);
    refused(m.condemn_content(condemn("x")).await, Code::Unavailable, &words);
    m.put_content(put(NS, vec![entry("y", 7, &[])])).await.unwrap();

    let of_another = until.map(|until| berth_wire::types::Time { seconds: until.seconds - 1, ..until });
    absolve(of_another).await.unwrap();
    refused(m.add_lease_resources(lease.clone()).await, Code::Unavailable, &words);
    for _twice in 0..2 {
        absolve(until).await.unwrap();
    }
    m.add_lease_resources(lease).await.unwrap();
    refused(m.condemn_content(condemn("x")).await, Code::FailedPrecondition, &["in use", "lease \"l\""]);
    m.delete_lease(msg::DeleteLeaseRequest { namespace: NS.into(), id: "l".into() }).await.unwrap();
    absolve(m.condemn_content(condemn("x")).await.unwrap().until).await.unwrap();
    m.put_content(put(NS, vec![entry("x", 7, &[])])).await.unwrap();

    let bad = msg::CondemnContentRequest { digest: "x".into() };
    refused(m.condemn_content(bad).await, Code::InvalidArgument, &["digest"]);
    let bad = msg::AbsolveContentRequest { digest: "x".into(), until };
    refused(m.absolve_content(bad).await, Code::InvalidArgument, &["digest"]);
    refused(absolve(None).await, Code::InvalidArgument, &["until"]);
}

crate::in_both_homes! {
    records_are_made_merged_and_dropped
    sources_are_sets
    bad_entries_are_refused_with_all_others
    of_many_those_are_told_that_the_namespace_has
    one_request_may_name_a_digest_twice
    lists_come_in_pages_in_key_order
    what_is_recorded_cannot_be_condemned
    what_is_condemned_cannot_be_recorded_or_leased
}
