//! A large store is collected while others write: how long it takes, what memory it needs, how long a writer waits.
//!
//! Small by default. For the numbers of a large one:
//!
//! ```sh
//! BERTH_BLOBS=100000 cargo test --release -p berth-metadata --test large -- --nocapture
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use berth_api::metadata::Metadata;
use berth_metadata::Config;
use berth_model::{Digest, Status};
use berth_wire::{metadata as msg, types};
use msg::put_content_request::Entry;
use tokio::task::JoinSet;

const NS: &str = "default";
/// Of five blobs one is a manifest, which refers to fifty: ten references for each blob.
const MANIFEST_EVERY: usize = 5;
const REFERENCES: usize = 50;
const WRITERS: usize = 4;

fn digest(n: usize) -> Digest {
    Digest::of(&n.to_le_bytes())
}

/// A store of so many blobs, of which the second half has no image.
struct Large {
    metadata: Arc<dyn Metadata>,
    blobs: usize,
    _root: tempfile::TempDir,
}

impl Large {
    async fn fill(blobs: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let metadata: Arc<dyn Metadata> = berth_metadata::open(Config::new(root.path())).await.unwrap();
        let large = Self { metadata, blobs, _root: root };
        for first in (0..blobs).step_by(500) {
            let entries = (first..blobs.min(first + 500)).map(|n| large.entry(n)).collect();
            large
                .metadata
                .put_content(msg::PutContentRequest { namespace: NS.into(), entries, ..Default::default() })
                .await
                .unwrap();
        }
        let mut puts = JoinSet::new();
        for n in (0..blobs / 2).step_by(MANIFEST_EVERY) {
            puts.spawn(put_image(Arc::clone(&large.metadata), format!("image-{n}"), digest(n)));
            if puts.len() > 100 {
                puts.join_next().await.unwrap().unwrap().unwrap();
            }
        }
        puts.join_all().await.into_iter().for_each(Result::unwrap);
        large
    }

    /// A manifest refers to others of its half.
    fn entry(&self, n: usize) -> Entry {
        let half = self.blobs / 2;
        let label = |k: usize| {
            let to = (n / half) * half + (n * REFERENCES / MANIFEST_EVERY + k) % half;
            (format!("containerd.io/gc.ref.content.l.{k}"), digest(to).to_string())
        };
        let references = if n.is_multiple_of(MANIFEST_EVERY) { REFERENCES } else { 0 };
        Entry {
            digest: digest(n).to_string(),
            size: 1000,
            labels: (0..references).map(label).collect(),
            ..Entry::default()
        }
    }

    async fn count(&self) -> usize {
        let (mut count, mut after) = (0, String::new());
        loop {
            let request = msg::ListContentRequest { namespace: NS.into(), after, limit: 0 };
            let page = self.metadata.list_content(request).await.unwrap();
            count += page.contents.len();
            after = page.contents.last().map(|content| content.digest.clone()).unwrap_or_default();
            if !page.more {
                return count;
            }
        }
    }
}

async fn put_image(metadata: Arc<dyn Metadata>, name: String, target: Digest) -> Result<(), Status> {
    let target = types::Descriptor {
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        digest: target.to_string(),
        size: 1000,
        ..Default::default()
    };
    let image = msg::Image { name, target: Some(target), ..Default::default() };
    let request = msg::PutImageRequest { namespace: NS.into(), image: Some(image), ..Default::default() };
    metadata.put_image(request).await.map(drop)
}

/// Times of calls, each of which waited for the disk.
#[derive(Debug, Default)]
struct Waits(Vec<Duration>);

impl Waits {
    fn of(&mut self, part: f64) -> Duration {
        self.0.sort_unstable();
        let last = self.0.len() - 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "small"
        )]
        let at = (last as f64 * part) as usize;
        self.0[at]
    }
}

/// Works as pulls do, until it is told to stop: lease, record, image, lease ended; and one image deleted.
async fn write(metadata: Arc<dyn Metadata>, writer: usize, stopped: Arc<AtomicBool>) -> Waits {
    let mut waits = Waits::default();
    for round in 0.. {
        if stopped.load(Ordering::Acquire) {
            break;
        }
        let blob = Digest::of(format!("{writer} {round}").as_bytes());
        let id = format!("lease-{writer}-{round}");
        let lease = msg::CreateLeaseRequest { namespace: NS.into(), id: id.clone(), ..Default::default() };
        timed(&mut waits, metadata.create_lease(lease)).await;
        let resources = vec![msg::Resource { r#type: "content".into(), id: blob.to_string() }];
        let add = msg::AddLeaseResourcesRequest { namespace: NS.into(), id: id.clone(), resources };
        timed(&mut waits, metadata.add_lease_resources(add)).await;
        let entries = vec![Entry { digest: blob.to_string(), size: 1, ..Entry::default() }];
        let put = msg::PutContentRequest { namespace: NS.into(), entries, lease: id.clone() };
        timed(&mut waits, metadata.put_content(put)).await;
        let name = format!("written-{writer}");
        timed(&mut waits, put_image(Arc::clone(&metadata), name, blob)).await;
        timed(&mut waits, metadata.delete_lease(msg::DeleteLeaseRequest { namespace: NS.into(), id })).await;
    }
    waits
}

async fn timed<T>(waits: &mut Waits, call: impl Future<Output = Result<T, Status>>) {
    let begun = Instant::now();
    call.await.unwrap();
    waits.0.push(begun.elapsed());
}

/// Lets writers write while something is done.
async fn among_writers<R>(metadata: &Arc<dyn Metadata>, what: impl Future<Output = R>) -> (R, Waits) {
    let stopped = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(Arc::clone(metadata), writer, Arc::clone(&stopped)));
    }
    let done = what.await;
    stopped.store(true, Ordering::Release);
    let waits = writers.join_all().await.into_iter().flat_map(|waits| waits.0).collect();
    (done, Waits(waits))
}

/// A line of `/proc/self/status`, in MiB.
fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let kib = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    kib.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_large_store_is_collected_while_others_write() {
    let blobs = std::env::var("BERTH_BLOBS").map_or(2000, |text| text.parse().expect("BERTH_BLOBS"));
    let begun = Instant::now();
    let large = Large::fill(blobs).await;
    println!("filled with {blobs} blobs in {:?}", begun.elapsed());

    // sleeps: what writers wait for without a collection, to compare.
    let (_, mut alone) = among_writers(&large.metadata, tokio::time::sleep(Duration::from_secs(1))).await;
    println!("writers alone: {} calls, half within {:?}, longest {:?}", alone.0.len(), alone.of(0.5), alone.of(1.0));

    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS:");
    let begun = Instant::now();
    let (marked, mut marking) = among_writers(&large.metadata, large.metadata.mark(msg::MarkRequest {})).await;
    let (marked, mark_time) = (marked.unwrap(), begun.elapsed());
    println!("marked {} records, {} references in {mark_time:?}", marked.records, marked.references);
    println!(
        "writers meanwhile: {} calls, half within {:?}, longest {:?}",
        marking.0.len(),
        marking.of(0.5),
        marking.of(1.0)
    );

    let begun = Instant::now();
    let sweep = async {
        let (mut removed, mut longest) = (0, Duration::ZERO);
        loop {
            let begun = Instant::now();
            let request = msg::SweepRequest { mark_id: marked.mark_id.clone(), limit: 0 };
            let swept = large.metadata.sweep(request).await.unwrap();
            longest = longest.max(begun.elapsed());
            removed += swept.removed.len();
            if swept.done {
                return (removed, longest);
            }
        }
    };
    let ((removed, batch), mut sweeping) = among_writers(&large.metadata, sweep).await;
    println!("swept {removed} records in {:?}, longest batch {batch:?}", begun.elapsed());
    println!(
        "writers meanwhile: {} calls, half within {:?}, longest {:?}",
        sweeping.0.len(),
        sweeping.of(0.5),
        sweeping.of(1.0)
    );
    println!("memory: {before} MiB before, at most {} MiB", memory("VmHWM:"));
    large.metadata.end_mark(msg::EndMarkRequest { mark_id: marked.mark_id }).await.unwrap();

    assert!(usize::try_from(marked.references).unwrap() >= blobs / MANIFEST_EVERY * REFERENCES);
    assert!(removed >= blobs / 2 * 99 / 100, "{removed}");
    let left = large.count().await;
    assert!(left >= blobs / 2, "{left} are left: something in use went");
    let bound = Duration::from_secs(1);
    assert!(marking.of(1.0) < bound && sweeping.of(1.0) < bound, "a writer waited too long");
}
