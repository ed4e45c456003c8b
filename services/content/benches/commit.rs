//! What it costs to write a blob and to commit it, by the contract, on a bus in this process: `cargo bench -p berth-content`.
//!
//! The stores take 3 GB below `TMPDIR`. Where that is an ext4 without a journal, a run within minutes of another is slower: see
//! `docs/PERFORMANCE.md`.

#![allow(missing_docs, reason = "the macros of the harness make public items")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on shall stop")]

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicU64, Ordering},
};

use berth_api::content::{BlobWriter, Content, ContentClient, Turns};
use berth_bus::{Bus, Serving};
use berth_content::Config;
use berth_model::Digest;
use bytes::Bytes;
use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};
use tokio::runtime::Runtime;

const SMALL: usize = 4 << 10;
const MIDDLE: usize = 1 << 20;
const LARGE: usize = 64 << 20;
/// Bytes that arrive at once.
const PIECE: usize = 16 << 10;

/// Stores stay until the end: ext4 makes files slowly for a while where some were deleted.
static STORES: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fn main() {
    divan::main();
    std::fs::remove_dir_all(STORES.path()).unwrap();
}

/// A store that is served.
struct Home {
    runtime: Runtime,
    content: Arc<dyn Content>,
    _serving: Vec<Serving>,
}

impl Home {
    fn new() -> Self {
        let (runtime, bus) = (Runtime::new().unwrap(), Bus::in_process());
        let root = tempfile::tempdir_in(STORES.path()).unwrap().keep();
        let config = Config::new(root, "a benchmark");
        let serving = runtime.block_on(berth_content::start(&bus, config)).unwrap();
        Self { runtime, content: Arc::new(ContentClient::new(bus)), _serving: serving }
    }
}

/// Bytes that no store has yet.
struct Blob {
    bytes: Bytes,
    digest: Digest,
}

impl Blob {
    fn new(length: usize) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let mut bytes = vec![7; length];
        bytes.splice(..8, MADE.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        Self { digest: Digest::of(&bytes), bytes: bytes.into() }
    }

    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// As the fetcher writes.
    async fn write(&self, content: &Arc<dyn Content>, turns: &Turns) -> BlobWriter {
        let reference = format!("layer-{}", self.digest);
        let opened = BlobWriter::open(Arc::clone(content), &reference, Some(&self.digest), self.length()).await;
        let mut writer = opened.unwrap().in_turns(turns, self.length());
        let mut left = self.bytes.clone();
        while !left.is_empty() {
            writer.write(left.split_to(left.len().min(PIECE))).await.unwrap();
        }
        writer
    }

    async fn commit(&self, mut writer: BlobWriter) {
        writer.commit(self.length(), &self.digest).await.unwrap();
    }
}

/// All of it: the ingest is opened, written, hashed, flushed, renamed and recorded.
#[divan::bench(args = [SMALL, MIDDLE, LARGE], sample_count = 20, sample_size = 1)]
fn write_and_commit(bencher: Bencher, length: usize) {
    let (home, turns) = (Home::new(), Turns::default());
    bencher.counter(BytesCount::new(length)).with_inputs(|| Blob::new(length)).bench_local_refs(|blob| {
        home.runtime.block_on(async { blob.commit(blob.write(&home.content, &turns).await).await });
    });
}

/// The commit alone, of what is written and hashed: the flush, the rename, the record.
#[divan::bench(args = [SMALL, MIDDLE, LARGE], sample_count = 20, sample_size = 1)]
fn commit(bencher: Bencher, length: usize) {
    let (home, turns) = (Home::new(), Turns::default());
    let written = || {
        let blob = Blob::new(length);
        let writer = home.runtime.block_on(async {
            let mut writer = blob.write(&home.content, &turns).await;
            assert_eq!(writer.digest().await.unwrap(), blob.digest);
            writer
        });
        (blob, writer)
    };
    bencher
        .counter(BytesCount::new(length))
        .with_inputs(written)
        .bench_local_values(|(blob, writer)| home.runtime.block_on(blob.commit(writer)));
}

/// Small blobs, all at once, as the documents and layers of an image arrive.
#[divan::bench(args = [1, 64], sample_count = 20, sample_size = 1)]
fn small_at_once(bencher: Bencher, at_once: usize) {
    let (home, turns) = (Home::new(), Turns::default());
    let blobs = || (0..at_once).map(|_| Blob::new(SMALL)).collect::<Vec<_>>();
    bencher.counter(ItemsCount::new(at_once)).with_inputs(blobs).bench_local_refs(|blobs| {
        let done = blobs.iter().map(async |blob| blob.commit(blob.write(&home.content, &turns).await).await);
        home.runtime.block_on(futures::future::join_all(done));
    });
}
