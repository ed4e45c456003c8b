//! What was acknowledged is there after the process died, with its events, without gaps; old events go, new ones stay.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use berth_api::metadata::Metadata;
use berth_metadata::{Config, Service};
use berth_model::{Code, Digest};
use berth_wire::metadata as msg;
use msg::snapshot::Kind;

const CHILD: &str = "BERTH_TEST_CRASH_ROOT";

/// Opens, as soon as whoever held it is gone.
async fn open(config: Config) -> Arc<Service> {
    let begun = Instant::now();
    loop {
        match berth_metadata::open(config.clone()).await {
            Ok(service) => return service,
            Err(status) => assert!(
                status.code == Code::FailedPrecondition && begun.elapsed() < Duration::from_secs(20),
                "{status}"
            ),
        }
        tokio::task::yield_now().await;
    }
}

fn record(seed: &str) -> msg::PutContentRequest {
    let digest = Digest::of(seed.as_bytes()).to_string();
    let entry = msg::put_content_request::Entry { digest, size: 1, ..Default::default() };
    msg::PutContentRequest { namespace: "ns".into(), entries: vec![entry], ..Default::default() }
}

fn prepare(key: &str) -> msg::PrepareSnapshotRequest {
    msg::PrepareSnapshotRequest {
        namespace: "ns".into(),
        snapshotter: "overlay".into(),
        key: key.into(),
        kind: Kind::Active.into(),
        ..Default::default()
    }
}

async fn events(metadata: &dyn Metadata, mut after: u64) -> Vec<msg::Event> {
    let mut all = Vec::new();
    loop {
        let reply = metadata.read_events(msg::ReadEventsRequest { after, ..Default::default() }).await.unwrap();
        let Some(last) = reply.events.last() else { return all };
        after = last.sequence;
        all.extend(reply.events);
    }
}

/// The half that is killed: writes, and says what was acknowledged. Does nothing unless it is the child.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes_until_it_is_killed() {
    let Some(root) = std::env::var_os(CHILD) else { return };
    let metadata = open(Config::new(Path::new(&root))).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let metadata = Arc::clone(&metadata);
        writers.spawn(async move {
            for n in 0_u64.. {
                let name = format!("{writer}-{n}-{}", std::process::id());
                metadata.put_content(record(&name)).await.unwrap();
                let made = metadata.prepare_snapshot(prepare(&name)).await.unwrap();
                println!("\nacknowledged {name} {}", made.snapshot.unwrap().id);
            }
        });
    }
    writers.join_all().await;
}

#[tokio::test]
async fn a_killed_store_keeps_what_it_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let mut ids = BTreeSet::new();
    let mut names = Vec::new();
    for round in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD, root.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        for line in lines {
            let line = line.unwrap();
            let mut words = line.split(' ');
            if words.next() != Some("acknowledged") {
                continue;
            }
            names.push(words.next().unwrap().to_owned());
            let id: u64 = words.next().unwrap().parse().unwrap();
            assert!(ids.insert(id), "id {id} was used twice");
            acknowledged += 1;
            if acknowledged == 40 + round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        check(root.path(), &names).await;
    }
    assert!(names.len() > 120);
}

async fn check(root: &Path, names: &[String]) {
    let metadata = open(Config::new(root)).await;
    let all = events(&*metadata, 0).await;
    assert_eq!(
        all.iter().map(|event| event.sequence).collect::<Vec<_>>(),
        (1..=all.len() as u64).collect::<Vec<_>>(),
        "no gap"
    );
    let mut reported: BTreeSet<&str> = BTreeSet::new();
    for event in &all {
        assert!(reported.insert(event.json.as_str()), "reported twice: {}", event.json);
    }
    for name in names {
        let digest = Digest::of(name.as_bytes()).to_string();
        let request = msg::GetContentRequest { namespace: "ns".into(), digest: digest.clone() };
        metadata.get_content(request).await.unwrap();
        let request =
            msg::StatSnapshotRequest { namespace: "ns".into(), snapshotter: "overlay".into(), key: name.clone() };
        metadata.stat_snapshot(request).await.unwrap();
        assert!(reported.iter().any(|json| json.contains(&digest)), "{name} has no event");
    }
    // And no event without its change.
    let request = msg::ListContentRequest { namespace: "ns".into(), limit: 1000, ..Default::default() };
    let page = metadata.list_content(request).await.unwrap();
    let created = all.iter().filter(|event| event.topic == "/content/create").count();
    assert!(page.more || page.contents.len() == created, "{} records, {created} events", page.contents.len());
}

#[tokio::test]
async fn old_events_go_and_new_ones_stay() {
    let root = tempfile::tempdir().unwrap();
    let config = Config { event_retention: 10, ..Config::new(root.path()) };
    let metadata = open(config.clone()).await;
    for n in 0..50 {
        metadata.put_content(record(&format!("{n}"))).await.unwrap();
    }
    let refusal = metadata.read_events(msg::ReadEventsRequest { after: 39, ..Default::default() }).await.unwrap_err();
    assert_eq!(refusal.code, Code::OutOfRange);
    assert!(refusal.message.contains("first one kept is 41"), "{refusal}");
    assert_eq!(events(&*metadata, 40).await.len(), 10);
    let before = metadata.read_events(msg::ReadEventsRequest { after: 50, ..Default::default() }).await.unwrap();
    drop(metadata);

    // A store that is opened with another retention keeps pace a few at a time.
    let metadata = open(Config { event_retention: 2, ..config }).await;
    let now = metadata.read_events(msg::ReadEventsRequest { after: 50, ..Default::default() }).await.unwrap();
    assert_eq!((now.last, now.outbox_id), (50, before.outbox_id), "the same outbox");
    metadata.put_content(record("last")).await.unwrap();
    assert_eq!(events(&*metadata, 49).await.len(), 2);
}

#[tokio::test]
async fn a_caller_that_goes_away_keeps_nothing_back() {
    let root = tempfile::tempdir().unwrap();
    let metadata = open(Config::new(root.path())).await;
    let watcher = {
        let metadata = Arc::clone(&metadata);
        tokio::spawn(async move {
            metadata.read_events(msg::ReadEventsRequest { wait_ms: 30_000, ..Default::default() }).await
        })
    };
    // Polled once: the change is on its way, and nobody waits for its answer.
    let mut put = metadata.put_content(record("x"));
    assert!(futures_poll(&mut put).await.is_none());
    drop(put);
    assert_eq!(watcher.await.unwrap().unwrap().events.len(), 1);
}

/// Polls a future once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut future = std::pin::Pin::new(future);
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(done) => Some(done),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
