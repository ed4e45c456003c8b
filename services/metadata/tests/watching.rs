//! List-then-watch: a state and the events after it, while others write, are everything, and nothing twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use berth_api::metadata::Metadata;
use berth_metadata::{Config, Service};
use berth_model::{Code, Digest};
use berth_wire::metadata::{self as msg, state_item::Record};
use serde_json::Value;

fn digest(seed: u64) -> String {
    Digest::of(&seed.to_le_bytes()).to_string()
}

async fn put(service: &Service, namespace: &str, digests: Vec<String>) {
    let entries =
        digests.into_iter().map(|digest| msg::put_content_request::Entry { digest, size: 1, ..Default::default() });
    let request =
        msg::PutContentRequest { namespace: namespace.into(), entries: entries.collect(), ..Default::default() };
    service.put_content(request).await.unwrap();
}

async fn delete(service: &Service, namespace: &str, digest: String) {
    service.delete_content(msg::DeleteContentRequest { namespace: namespace.into(), digest }).await.unwrap();
}

/// All pages of one state: its sequence, and the digests in it.
async fn state(service: &Service, namespace: &str) -> (u64, BTreeSet<String>, u32) {
    let (mut found, mut state, mut page) = (BTreeSet::new(), 0, 0);
    loop {
        let request = msg::ReadStateRequest { namespace: namespace.into(), state, page };
        let read = service.read_state(request).await.unwrap();
        for item in read.items {
            if let Some(Record::Content(content)) = item.record {
                assert!(found.insert(content.digest), "twice in one state");
            }
        }
        (state, page) = (read.state, page + 1);
        if !read.more {
            return (read.sequence, found, page);
        }
    }
}

/// Follows the events to the end of the writers, and holds each against what is known: a gap or a double would show.
async fn watch(service: &Service, namespace: &str, finished: &AtomicBool) -> (BTreeSet<String>, u32) {
    let (mut after, mut known, pages) = state(service, namespace).await;
    loop {
        let over = finished.load(Ordering::Acquire);
        let request = msg::ReadEventsRequest { after, limit: 100, wait_ms: 50 };
        let read = service.read_events(request).await.unwrap();
        for event in &read.events {
            assert_eq!(event.sequence, after + 1);
            after = event.sequence;
            if event.namespace != namespace {
                continue;
            }
            let facts: Value = serde_json::from_str(&event.json).unwrap();
            let digest = facts["digest"].as_str().unwrap().to_owned();
            match event.topic.as_str() {
                "/content/create" => assert!(known.insert(digest), "event {after} was in the state already"),
                "/content/delete" => assert!(known.remove(&digest), "event {after} is of what was never told"),
                other => panic!("{other}"),
            }
        }
        if over && read.events.is_empty() {
            return (known, pages);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_state_and_the_events_after_it_are_all_and_nothing_twice() {
    let root = tempfile::tempdir().unwrap();
    let service = berth_metadata::open(Config::new(root.path())).await.unwrap();
    let seeds = Arc::new(AtomicU64::new(0));
    // More than one page.
    for _ in 0..5 {
        put(&service, "ns", (0..500).map(|_| digest(seeds.fetch_add(1, Ordering::Relaxed))).collect()).await;
    }
    let finished = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3_u64)
        .map(|_| {
            let (service, seeds) = (Arc::clone(&service), Arc::clone(&seeds));
            tokio::spawn(async move {
                for _ in 0..60 {
                    let mut made: Vec<_> = (0..4).map(|_| digest(seeds.fetch_add(1, Ordering::Relaxed))).collect();
                    put(&service, "ns", made.clone()).await;
                    put(&service, "other", vec![made[0].clone()]).await;
                    delete(&service, "ns", made.pop().unwrap()).await;
                }
            })
        })
        .collect();
    // Three begin in the middle of it, one after the other; a fourth would be too many only if they did not end.
    let watchers: Vec<_> = (0..3)
        .map(|_| {
            let (service, finished) = (Arc::clone(&service), Arc::clone(&finished));
            tokio::spawn(async move { watch(&service, "ns", &finished).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    finished.store(true, Ordering::Release);
    let (_, last, _) = state(&service, "ns").await;
    assert_eq!(last.len(), 2500 + 3 * 60 * 3);
    for watcher in watchers {
        let (known, pages) = watcher.await.unwrap();
        assert!(pages > 1, "one page proves little");
        assert_eq!(known, last);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_go_on_is_not_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let service = berth_metadata::open(Config::new(root.path())).await.unwrap();
    put(&service, "ns", (0..1500).map(digest).collect()).await;
    let begin = || service.read_state(msg::ReadStateRequest::default());
    let mut held = Vec::new();
    let refused = loop {
        match begin().await {
            Ok(read) => held.push(read.state),
            Err(status) => break status,
        }
        assert!(held.len() < 100, "nothing bounds them");
    };
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused}");
    // One that is read to its end makes room.
    let state = held.pop().unwrap();
    let mut page = 1;
    while service.read_state(msg::ReadStateRequest { state, page, ..Default::default() }).await.unwrap().more {
        page += 1;
    }
    begin().await.unwrap();
    let over = service.read_state(msg::ReadStateRequest { state, page, ..Default::default() }).await.unwrap_err();
    assert_eq!(over.code, Code::Aborted, "{over}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_say_when_they_were_read() {
    let root = tempfile::tempdir().unwrap();
    let service = berth_metadata::open(Config::new(root.path())).await.unwrap();
    for n in 0..3 {
        let list = msg::ListContentRequest { namespace: "ns".into(), ..Default::default() };
        let read = service.list_content(list).await.unwrap();
        assert_eq!((read.contents.len() as u64, read.sequence), (n, n));
        put(&service, "ns", vec![digest(n)]).await;
    }
    let images = msg::ListImagesRequest { namespace: "ns".into(), ..Default::default() };
    assert_eq!(service.list_images(images).await.unwrap().sequence, 3);
    let snapshots =
        msg::ListSnapshotsRequest { namespace: "ns".into(), snapshotter: "overlayfs".into(), ..Default::default() };
    assert_eq!(service.list_snapshots(snapshots).await.unwrap().sequence, 3);
}
