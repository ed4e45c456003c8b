//! What the service can be told, with a reason beside each default.

use std::{path::PathBuf, time::Duration};

use berth_kv::Durability;
use tokio::sync::watch;

use crate::{collection::Patience, fences::Fences};

/// How subscribers get the facts of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventEncoding {
    /// For people and for every language.
    Json,
    /// `berth.metadata.v1.Event`: for programs that have its description.
    Protobuf,
}

/// Where the records are and how they are kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of the RocksDB. Made if it is missing.
    pub root: PathBuf,
    /// Whether an answer waits for the disk. Anything but synced is for tests and benchmarks: a power cut may then take
    /// back what was promised.
    pub durability: Durability,
    /// Who holds the store, for the message another process gets that finds it locked.
    pub holder: String,
    /// How many events the outbox keeps for readers that come late. The newest ones stay; older ones are dropped a few
    /// at a time. Events that still have to be relayed to NATS are kept beyond this number.
    pub event_retention: u64,
    /// How the bodies of events are written for subscribers.
    pub event_encoding: EventEncoding,
    /// How long a deleter may delete what it had condemned; one that is slower deletes nothing.
    pub condemnation_leave: Duration,
    /// How much longer nobody can record or lease it, unless the deleter said that it is done.
    pub condemnation_grace: Duration,
    /// Becomes true when nobody but this process can be deleting: what was condemned before it began is so no more. None:
    /// nobody can know that, and it ends by itself.
    pub alone: Option<watch::Receiver<bool>>,
    /// A round of collection of which nothing was heard for so long is over, and another may begin.
    pub round_silence: Duration,
    /// The same, of one whose collector is not there any more. Longer than it takes to come back after a connection broke.
    pub round_unwatched: Duration,
    /// How many records of pulls that ended are kept, and for how long.
    pub ended_pulls: u64,
    /// See `ended_pulls`.
    pub ended_pulls_age: Duration,
    /// For tests that take one away.
    #[doc(hidden)]
    pub fences: Fences,
}

impl Config {
    /// The defaults for a store in `root`. 100 000 events are about 30 MB, and days of a busy node.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            durability: Durability::default(),
            holder: format!("berth metadata, process {}", std::process::id()),
            event_retention: 100_000,
            event_encoding: EventEncoding::Json,
            // Files are deleted in far less, also a page of them from a slow disk.
            condemnation_leave: Duration::from_secs(20),
            // A thread that looked at the clock and then deletes may be held up by a busy machine. A pull waits as long
            // as both together.
            condemnation_grace: Duration::from_secs(10),
            alone: None,
            // A collector asks for the next batch at once.
            round_silence: Duration::from_secs(120),
            round_unwatched: Duration::from_secs(5),
            // A few hundred bytes each. Older ones are dropped when others end.
            ended_pulls: 1000,
            ended_pulls_age: Duration::from_secs(7 * 24 * 60 * 60),
            fences: Fences::default(),
        }
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience { silence: self.round_silence, unwatched: self.round_unwatched }
    }
}
