//! The real services on a bus in this process, what everybody knows of one another, and what was lost.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use berth_api::{
    content::{Content, ContentClient},
    gc::{Gc, GcClient},
    metadata::{Metadata, MetadataClient},
};
use berth_bus::{Bus, Serving};
use berth_kv::Durability;
use berth_metadata::{Fence, Fences};
use berth_model::{Code, Digest, Status};
use berth_wire::{content::StatBlobRequest, metadata as msg};
use bytes::Bytes;
use rand::{RngExt as _, rngs::StdRng};

/// Short, so that condemnations end while their deleters still work.
pub(crate) const LEAVE: Duration = Duration::from_millis(40);
const GRACE: Duration = Duration::from_millis(160);
/// Long enough for a message to come when its condemnation is over.
pub(crate) const TOO_LATE: Duration = Duration::from_millis(300);
/// So many blobs are fetched, referred to and collected again and again.
const BLOBS: usize = 4;

/// A fence that is taken away: of metadata, or a habit of its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Without {
    OfMetadata(Fence),
    NotAfter,
    AnswerFirst,
    LeaseFirst,
}

/// Who takes part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    pub(crate) pulls: usize,
    pub(crate) labellers: usize,
    pub(crate) collectors: usize,
    /// The gc service collects too. It says whose the blobs are, so then there can be no other collectors.
    pub(crate) service: bool,
    /// Most that a pull waits after another. In a quiet world collectors meet each other, and their late messages matter.
    pub(crate) pause: Duration,
}

/// How often what happened, to see that it was a test at all.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) pulled: AtomicU64,
    pub(crate) fetched: AtomicU64,
    pub(crate) leases_lost: AtomicU64,
    pub(crate) labelled: AtomicU64,
    pub(crate) rounds: AtomicU64,
    pub(crate) swept: AtomicU64,
    pub(crate) deleted: AtomicU64,
    pub(crate) refused: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(u64::try_from(more).unwrap(), Ordering::Relaxed);
}

pub(crate) struct World {
    pub(crate) content: Arc<dyn Content>,
    pub(crate) metadata: Arc<dyn Metadata>,
    pub(crate) gc: Arc<dyn Gc>,
    pub(crate) without: Option<Without>,
    pub(crate) crowd: Crowd,
    pub(crate) blobs: Vec<(Digest, Bytes)>,
    /// Leases of pulls that run: namespace and id.
    pub(crate) leases: Mutex<Vec<(String, String)>>,
    pub(crate) counts: Counts,
    stopped: AtomicBool,
    lost: Mutex<Option<String>>,
    _serving: Vec<Serving>,
    _dirs: [tempfile::TempDir; 2],
}

impl World {
    pub(crate) async fn new(seed: u64, crowd: Crowd, without: Option<Without>) -> Self {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let bus = Bus::in_process();
        let content = berth_content::Config {
            durability: Durability::None,
            ..berth_content::Config::new(dirs[0].path().to_owned(), "a test")
        };
        let fences = match without {
            Some(Without::OfMetadata(fence)) => Fences::without(fence),
            _ => Fences::default(),
        };
        let metadata = berth_metadata::Config {
            durability: Durability::None,
            condemnation_leave: LEAVE,
            condemnation_grace: GRACE,
            round_silence: TOO_LATE,
            round_unwatched: TOO_LATE / 10,
            fences,
            ..berth_metadata::Config::new(dirs[1].path())
        };
        let mut serving = berth_content::start(&bus, content).await.unwrap();
        serving.extend(berth_metadata::start(&bus, metadata).await.unwrap());
        let gc = berth_gc::Config { snapshotters: Vec::new(), schedule: None, ..berth_gc::Config::default() };
        serving.extend(berth_gc::start(&bus, gc).await.unwrap());
        let bytes = |n| Bytes::from(format!("blob {n} of {seed}"));
        Self {
            content: Arc::new(ContentClient::new(bus.clone())),
            metadata: Arc::new(MetadataClient::new(bus.clone())),
            gc: Arc::new(GcClient::new(bus)),
            without,
            crowd,
            blobs: (0..BLOBS).map(|n| (Digest::of(&bytes(n)), bytes(n))).collect(),
            leases: Mutex::default(),
            counts: Counts::default(),
            stopped: AtomicBool::new(false),
            lost: Mutex::default(),
            _serving: serving,
            _dirs: dirs,
        }
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Something that was promised is not there.
    pub(crate) fn lose(&self, what: String) {
        self.lost.lock().unwrap().get_or_insert(what);
        self.stop();
    }

    pub(crate) fn lost(&self) -> Option<String> {
        self.lost.lock().unwrap().clone()
    }

    /// Whether the store has the bytes.
    pub(crate) async fn has_bytes(&self, digest: &Digest) -> bool {
        found(self.content.stat_blob(StatBlobRequest { digest: digest.to_string() }).await)
    }

    /// Whether the namespace records it.
    pub(crate) async fn has_record(&self, namespace: &str, digest: &Digest) -> bool {
        let request = msg::GetContentRequest { namespace: namespace.to_owned(), digest: digest.to_string() };
        found(self.metadata.get_content(request).await)
    }

    /// What is held must have its record and its bytes.
    pub(crate) async fn expect(&self, holder: &str, namespace: &str, digest: &Digest) {
        let (record, bytes) = (self.has_record(namespace, digest).await, self.has_bytes(digest).await);
        if !(record && bytes) {
            self.lose(format!("{holder} holds {digest} in {namespace}; record: {record}, bytes: {bytes}"));
        }
    }
}

fn found<T>(answer: Result<T, Status>) -> bool {
    match answer {
        Ok(_) => true,
        Err(status) if status.code == Code::NotFound => false,
        Err(status) => panic!("{status}"),
    }
}

/// Lets others go first, for a random while.
pub(crate) async fn dawdle(rng: &mut StdRng) {
    match rng.random_range(0..4) {
        0 => {}
        1 => tokio::task::yield_now().await,
        // sleeps: the order of steps is what is tested, and this mixes it.
        _ => tokio::time::sleep(Duration::from_micros(rng.random_range(0..3000))).await,
    }
}

/// How long a message is on its way: often no time, sometimes almost the leave of a condemnation, sometimes too long.
pub(crate) async fn travel(rng: &mut StdRng) {
    let most = match rng.random_range(0..4) {
        0 | 1 => return dawdle(rng).await,
        2 => LEAVE,
        _ => TOO_LATE,
    };
    // sleeps: a message that comes too late is what is tested.
    tokio::time::sleep(most.mul_f64(rng.random_range(0.0..1.5))).await;
}
