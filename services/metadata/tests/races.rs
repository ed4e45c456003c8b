//! Many at once: a deleter against recorders and leases, and the order of events against the order of changes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use berth_api::metadata::Metadata;
use berth_metadata::Config;
use berth_model::{Code, Digest};
use berth_wire::{metadata as msg, types};

async fn fresh() -> (Arc<dyn Metadata>, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    (berth_metadata::open(Config::new(root.path())).await.unwrap(), root)
}

/// What is true of the bytes of one blob, as everybody believes who was told `Ok`.
#[derive(Default)]
struct Blob {
    being_deleted: AtomicBool,
    users: AtomicU32,
}

/// Deleters delete and recorders record as fast as they can. At no moment may a blob be in the hands of both.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_blob_is_never_deleted_and_used_at_once() {
    const ROUNDS: usize = 300;
    let (metadata, _root) = fresh().await;
    let blob = Arc::new(Blob::default());
    let (deleted, used) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    let digest = Digest::of(b"x").to_string();
    for _ in 0..2 {
        let (metadata, blob, digest, deleted) =
            (Arc::clone(&metadata), Arc::clone(&blob), digest.clone(), Arc::clone(&deleted));
        tasks.spawn(async move {
            for _ in 0..ROUNDS {
                let request = msg::CondemnContentRequest { digest: digest.clone() };
                let until = match metadata.condemn_content(request).await {
                    Ok(condemned) => condemned.until,
                    Err(status) => {
                        assert!(matches!(status.code, Code::FailedPrecondition | Code::Unavailable), "{status}");
                        continue;
                    }
                };
                assert!(!blob.being_deleted.swap(true, Ordering::SeqCst), "two deleters");
                tokio::task::yield_now().await;
                assert_eq!(blob.users.load(Ordering::SeqCst), 0, "deleted while it is used");
                deleted.fetch_add(1, Ordering::SeqCst);
                blob.being_deleted.store(false, Ordering::SeqCst);
                let request = msg::AbsolveContentRequest { digest: digest.clone(), until };
                metadata.absolve_content(request).await.unwrap();
            }
        });
    }
    for user in 0..4 {
        let (metadata, blob, digest, used) =
            (Arc::clone(&metadata), Arc::clone(&blob), digest.clone(), Arc::clone(&used));
        tasks.spawn(async move {
            for round in 0..ROUNDS {
                let begun = if user % 2 == 0 {
                    record(&*metadata, user, &digest).await
                } else {
                    lease(&*metadata, user, round, &digest).await
                };
                match begun {
                    Ok(()) => {}
                    Err(Code::Unavailable) => continue,
                    Err(other) => panic!("{other}"),
                }
                blob.users.fetch_add(1, Ordering::SeqCst);
                assert!(!blob.being_deleted.load(Ordering::SeqCst), "used while it is deleted");
                tokio::task::yield_now().await;
                used.fetch_add(1, Ordering::SeqCst);
                blob.users.fetch_sub(1, Ordering::SeqCst);
                if user % 2 == 0 {
                    let request = msg::DeleteContentRequest { namespace: format!("n{user}"), digest: digest.clone() };
                    metadata.delete_content(request).await.unwrap();
                } else {
                    let request = msg::DeleteLeaseRequest { namespace: "n".into(), id: format!("{user}-{round}") };
                    metadata.delete_lease(request).await.unwrap();
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let (deleted, used) = (deleted.load(Ordering::SeqCst), used.load(Ordering::SeqCst));
    assert!(used > 0, "{deleted} deletions, {used} uses");
}

async fn record(metadata: &dyn Metadata, user: usize, digest: &str) -> Result<(), Code> {
    let entry = msg::put_content_request::Entry { digest: digest.to_owned(), size: 1, ..Default::default() };
    let request = msg::PutContentRequest { namespace: format!("n{user}"), entries: vec![entry], ..Default::default() };
    metadata.put_content(request).await.map(drop).map_err(|status| status.code)
}

async fn lease(metadata: &dyn Metadata, user: usize, round: usize, digest: &str) -> Result<(), Code> {
    let id = format!("{user}-{round}");
    let request = msg::CreateLeaseRequest { namespace: "n".into(), id: id.clone(), ..Default::default() };
    metadata.create_lease(request).await.unwrap();
    let resources = vec![msg::Resource { r#type: "content".into(), id: digest.to_owned() }];
    let request = msg::AddLeaseResourcesRequest { namespace: "n".into(), id, resources };
    metadata.add_lease_resources(request).await.map(drop).map_err(|status| status.code)
}

/// Writers put one image over and over; the last event of it, and each before, says what was stored at that moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_are_in_the_order_of_changes() {
    const WRITERS: usize = 8;
    const EACH: usize = 60;
    let (metadata, _root) = fresh().await;
    let follower = tokio::spawn(follow(Arc::clone(&metadata), WRITERS * EACH));
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let metadata = Arc::clone(&metadata);
        tasks.spawn(async move {
            for round in 0..EACH {
                let target = types::Descriptor {
                    media_type: "m".into(),
                    digest: Digest::of(b"x").to_string(),
                    size: 1,
                    ..Default::default()
                };
                let labels = [("by".to_owned(), format!("{writer}-{round}"))].into();
                let image = msg::Image { name: "n".into(), target: Some(target), labels, ..Default::default() };
                let request = msg::PutImageRequest { namespace: "ns".into(), image: Some(image), ..Default::default() };
                metadata.put_image(request).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let events = follower.await.unwrap();
    let sequences: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=(WRITERS * EACH) as u64).collect::<Vec<_>>());
    assert_eq!(events.iter().filter(|event| event.topic == "/images/create").count(), 1);
    assert_eq!(events[0].topic, "/images/create");
    let by = |event: &msg::Event| {
        let facts: serde_json::Value = serde_json::from_str(&event.json).unwrap();
        facts["labels"]["by"].as_str().unwrap().to_owned()
    };
    let stored = metadata.get_image(msg::GetImageRequest { namespace: "ns".into(), name: "n".into() }).await.unwrap();
    assert_eq!(by(events.last().unwrap()), stored.labels["by"]);
    for writer in 0..WRITERS {
        let own: Vec<_> = events.iter().map(by).filter(|by| by.starts_with(&format!("{writer}-"))).collect();
        assert_eq!(own, (0..EACH).map(|round| format!("{writer}-{round}")).collect::<Vec<_>>());
    }
    let times: Vec<i64> = events.iter().map(|event| event.at.unwrap().millis()).collect();
    assert!(times.is_sorted());
}

/// Reads by long poll until there are `wanted`.
async fn follow(metadata: Arc<dyn Metadata>, wanted: usize) -> Vec<msg::Event> {
    let mut events: Vec<msg::Event> = Vec::new();
    while events.len() < wanted {
        let after = events.last().map_or(0, |event| event.sequence);
        let request = msg::ReadEventsRequest { after, limit: 7, wait_ms: 30_000 };
        let reply = metadata.read_events(request).await.unwrap();
        assert!(!reply.events.is_empty(), "nothing new after {after}");
        events.extend(reply.events);
    }
    events
}

/// Two that prepare the same key, and one that commits: one wins, ids differ.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_gets_a_key() {
    let (metadata, _root) = fresh().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let metadata = Arc::clone(&metadata);
        tasks.spawn(async move {
            let request = msg::PrepareSnapshotRequest {
                namespace: "ns".into(),
                snapshotter: "overlay".into(),
                key: "k".into(),
                kind: msg::snapshot::Kind::Active.into(),
                ..Default::default()
            };
            metadata.prepare_snapshot(request).await.map_err(|status| status.code)
        });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(Code::AlreadyExists))));
}
