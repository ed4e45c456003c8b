//! Settings of the unpacker.

use std::path::PathBuf;

/// Settings of the unpacker.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory below which each snapshotter has its own.
    pub root: PathBuf,
    /// Layers unpacked at once: each takes three threads, and up to 8 MiB beside the files under way.
    pub jobs: usize,
    /// Threads that make files, for all layers together.
    pub writers: usize,
    /// Whether a commit waits for the disk.
    pub flush: bool,
}

impl Config {
    /// The usual settings for snapshots below `root`.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self { root, jobs: cores.clamp(2, 8), writers: cores.clamp(1, 16), flush: true }
    }
}
