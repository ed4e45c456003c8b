//! Large stores are collected while others write: how long it takes, what memory it needs, how long a writer waits.
//!
//! Small by default. For the numbers of a large one:
//!
//! ```sh
//! BERTH_BLOBS=100000 cargo test --release -p berth-integration-tests --test large -- --nocapture --test-threads 1
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod store;
mod writers;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use berth_api::{
    gc::{Gc as _, GcClient},
    metadata::{Metadata, MetadataClient},
};
use berth_bus::Bus;
use berth_wire::{
    gc::{Collect, ReadRunRequest, StartRunRequest, Summary, start_run_request::Kind},
    metadata as msg,
};
use store::{Large, MANIFEST_EVERY, REFERENCES, files};
use writers::{Waits, among_writers, memory};

/// No writer may wait longer.
const LONGEST: Duration = Duration::from_secs(1);

fn blobs() -> usize {
    std::env::var("BERTH_BLOBS").map_or(2000, |text| text.parse().expect("BERTH_BLOBS"))
}

/// What writers wait for without a collection, to compare.
async fn alone(metadata: &Arc<dyn Metadata>) {
    // sleeps: for as long as is measured.
    let (_, mut waits) = among_writers(metadata, tokio::time::sleep(Duration::from_secs(1))).await;
    println!("writers alone: {}", waits.told());
}

/// From here on the most memory is counted anew.
fn forget_memory() -> u64 {
    fs::write("/proc/self/clear_refs", "5").unwrap();
    memory("VmRSS:")
}

async fn all_in_use_is_left(large: &Large, blobs: usize) {
    let left = large.count().await;
    assert!(left >= blobs / 2, "{left} are left: something in use went");
}

fn nobody_waited_long(waits: &mut Waits) {
    assert!(waits.of(1.0) < LONGEST, "a writer waited {:?}", waits.of(1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn records_are_marked_and_swept_while_others_write() {
    let blobs = blobs();
    let root = tempfile::tempdir().unwrap();
    let metadata: Arc<dyn Metadata> = berth_metadata::open(berth_metadata::Config::new(root.path())).await.unwrap();
    let begun = Instant::now();
    let large = Large::fill(Arc::clone(&metadata), blobs).await;
    println!("filled with {blobs} blobs in {:?}", begun.elapsed());
    alone(&metadata).await;

    let before = forget_memory();
    let begun = Instant::now();
    let (marked, mut marking) = among_writers(&metadata, metadata.mark(msg::MarkRequest::default())).await;
    let (marked, took) = (marked.unwrap(), begun.elapsed());
    println!("marked {} records, {} references in {took:?}", marked.records, marked.references);
    println!("writers meanwhile: {}", marking.told());

    let begun = Instant::now();
    let ((removed, batch), mut sweeping) = among_writers(&metadata, sweep(&metadata, &marked.mark_id)).await;
    println!("swept {removed} records in {:?}, longest batch {batch:?}", begun.elapsed());
    println!("writers meanwhile: {}", sweeping.told());
    println!("memory: {before} MiB before, at most {} MiB", memory("VmHWM:"));
    metadata.end_mark(msg::EndMarkRequest { mark_id: marked.mark_id }).await.unwrap();

    assert!(usize::try_from(marked.references).unwrap() >= blobs / MANIFEST_EVERY * REFERENCES);
    assert!(removed >= blobs / 2 * 99 / 100, "{removed}");
    all_in_use_is_left(&large, blobs).await;
    nobody_waited_long(&mut marking);
    nobody_waited_long(&mut sweeping);
}

/// How many records went, and how long the longest batch took.
async fn sweep(metadata: &Arc<dyn Metadata>, mark_id: &str) -> (usize, Duration) {
    let (mut removed, mut longest) = (0, Duration::ZERO);
    loop {
        let begun = Instant::now();
        let swept = metadata.sweep(msg::SweepRequest { mark_id: mark_id.to_owned(), limit: 0 }).await.unwrap();
        longest = longest.max(begun.elapsed());
        removed += swept.removed.len();
        if swept.done {
            return (removed, longest);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn records_and_files_are_collected_while_others_write() {
    let blobs = blobs();
    let root = tempfile::tempdir().unwrap();
    files(&root.path().join("content"), blobs);
    let bus = Bus::in_process();
    let content = berth_content::Config::new(root.path().join("content"), "a test");
    let mut serving = berth_content::start(&bus, content).await.unwrap();
    let records = berth_metadata::Config::new(root.path().join("metadata"));
    serving.extend(berth_metadata::start(&bus, records).await.unwrap());
    let gc = berth_gc::Config { snapshotters: Vec::new(), schedule: None, ..berth_gc::Config::default() };
    serving.extend(berth_gc::start(&bus, gc).await.unwrap());
    let metadata: Arc<dyn Metadata> = Arc::new(MetadataClient::new(bus.clone()));
    let large = Large::fill(Arc::clone(&metadata), blobs).await;
    alone(&metadata).await;

    let before = forget_memory();
    let begun = Instant::now();
    let (summary, mut waits) = among_writers(&metadata, collect(&GcClient::new(bus))).await;
    let gone = summary.blobs.unwrap().count;
    println!("collected {} records and {gone} files in {:?}", summary.contents, begun.elapsed());
    println!("writers meanwhile: {}", waits.told());
    println!("memory: {before} MiB before, at most {} MiB", memory("VmHWM:"));

    assert!(usize::try_from(gone).unwrap() >= blobs / 2 * 99 / 100, "{gone}");
    all_in_use_is_left(&large, blobs).await;
    let left = fs::read_dir(root.path().join("content/blobs/sha256")).unwrap().count();
    assert!(left >= blobs / 2, "{left} files are left: something in use went");
    nobody_waited_long(&mut waits);
    drop(serving);
}

async fn collect(gc: &GcClient) -> Summary {
    let kind = Kind::Collect(Collect { dry_run: false });
    let run_id = gc.start_run(StartRunRequest { kind: Some(kind) }).await.unwrap().run_id;
    let mut after = 0;
    let mut stage = (String::new(), Instant::now());
    loop {
        let request = ReadRunRequest { run_id: run_id.clone(), after, wait_ms: 1000 };
        let read = gc.read_run(request).await.unwrap();
        assert_eq!(read.error, "", "the collection failed");
        after += read.items.len() as u64;
        if read.stage != stage.0 || read.over {
            println!("  {:?} {}", stage.1.elapsed(), stage.0);
            stage = (read.stage, Instant::now());
        }
        if read.over {
            return read.summary.unwrap();
        }
    }
}
