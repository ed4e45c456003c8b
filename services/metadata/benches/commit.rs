//! What it costs to commit the records of snapshots, by the contract, on a bus in this process: `cargo bench -p berth-metadata`.

#![allow(missing_docs, reason = "the macros of the harness make public items")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on shall stop")]

use std::sync::atomic::{AtomicU64, Ordering};

use berth_api::metadata::{Metadata as _, MetadataClient};
use berth_bus::{Bus, Serving};
use berth_metadata::Config;
use berth_model::Digest;
use berth_wire::metadata as msg;
use divan::{Bencher, counter::ItemsCount};
use msg::snapshot::Kind;
use tokio::runtime::Runtime;

const NS: &str = "default";
const SNAPSHOTTER: &str = "overlayfs";

fn main() {
    divan::main();
}

/// A store that is served.
struct Home {
    runtime: Runtime,
    metadata: MetadataClient,
    _serving: Vec<Serving>,
    _root: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let (runtime, root, bus) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap(), Bus::in_process());
        let serving = runtime.block_on(berth_metadata::start(&bus, Config::new(root.path()))).unwrap();
        Self { runtime, metadata: MetadataClient::new(bus), _serving: serving, _root: root }
    }

    /// The snapshots of an image of so many layers, unpacked side by side; and what commits them, each on the one before it.
    fn prepared(&self, layers: usize) -> Vec<msg::CommitSnapshotRequest> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let mut below = String::new();
        let commits: Vec<_> = (0..layers)
            .map(|_| {
                let name = Digest::of(&MADE.fetch_add(1, Ordering::Relaxed).to_le_bytes()).to_string();
                let parent = std::mem::replace(&mut below, name.clone());
                commit(name, parent)
            })
            .collect();
        let snapshots = commits.iter().map(|commit| prepare(&commit.key)).collect();
        let prepared = self.metadata.prepare_snapshots(msg::PrepareSnapshotsRequest { snapshots });
        assert!(self.runtime.block_on(prepared).unwrap().snapshots.iter().all(|prepared| prepared.id > 0));
        commits
    }
}

fn prepare(key: &str) -> msg::PrepareSnapshotRequest {
    msg::PrepareSnapshotRequest {
        namespace: NS.into(),
        snapshotter: SNAPSHOTTER.into(),
        key: key.into(),
        kind: Kind::Active.into(),
        ..Default::default()
    }
}

fn commit(name: String, parent: String) -> msg::CommitSnapshotRequest {
    msg::CommitSnapshotRequest {
        namespace: NS.into(),
        snapshotter: SNAPSHOTTER.into(),
        key: format!("extract-{name}"),
        name,
        parent,
        ..Default::default()
    }
}

/// One by `CommitSnapshot`.
#[divan::bench(sample_size = 1)]
fn one(bencher: Bencher) {
    let home = Home::new();
    let input = || home.prepared(1).pop().unwrap();
    bencher.counter(ItemsCount::new(1_usize)).with_inputs(input).bench_local_values(|commit| {
        home.runtime.block_on(home.metadata.commit_snapshot(commit)).unwrap();
    });
}

/// So many by one `CommitSnapshots`: one batch.
#[divan::bench(args = [1, 100], sample_size = 1)]
fn batch(bencher: Bencher, layers: usize) {
    let home = Home::new();
    let input = || msg::CommitSnapshotsRequest { commits: home.prepared(layers) };
    bencher.counter(ItemsCount::new(layers)).with_inputs(input).bench_local_values(|request| {
        let done = home.runtime.block_on(home.metadata.commit_snapshots(request)).unwrap();
        assert_eq!(done.snapshots.len(), layers);
    });
}

/// So many callers with one each, at once: they share flushes.
#[divan::bench(args = [100], sample_size = 1)]
fn at_once(bencher: Bencher, callers: usize) {
    let home = Home::new();
    let input = || (0..callers).flat_map(|_| home.prepared(1)).collect::<Vec<_>>();
    bencher.counter(ItemsCount::new(callers)).with_inputs(input).bench_local_values(|commits| {
        let calls = commits.into_iter().map(|commit| home.metadata.commit_snapshot(commit));
        let done = home.runtime.block_on(futures::future::join_all(calls));
        assert!(done.iter().all(Result::is_ok));
    });
}
