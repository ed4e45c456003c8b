//! What the service can be told, with a reason beside each default.

use std::path::PathBuf;

use berth_kv::Durability;

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
        }
    }
}
