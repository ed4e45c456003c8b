//! The settings of the service, and why they are what they are by default.

use std::{path::PathBuf, time::Duration};

/// Settings of the service.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of the store; made if need be.
    pub root: PathBuf,
    /// Whether a commit waits for the disk.
    pub durability: berth_kv::Durability,
    /// What this process is, for the one that finds the store held.
    pub holder: String,
    /// A writer that was silent for so long may be replaced.
    pub writer_silence: Duration,
    /// More ingests than this, written or left behind, are refused.
    pub max_ingests: usize,
}

impl Config {
    /// The usual settings for a store at `root`.
    #[must_use]
    pub fn new(root: PathBuf, holder: &str) -> Self {
        Self {
            root,
            durability: berth_kv::Durability::Synced,
            holder: holder.to_owned(),
            // As the contract says. A living writer reports ten times a second; a machine that swaps may pause for seconds.
            writer_silence: Duration::from_secs(12),
            // Each is a directory, and while it is written a thread and 1 MiB. Pulls write some ten at once.
            max_ingests: 1024,
        }
    }
}
