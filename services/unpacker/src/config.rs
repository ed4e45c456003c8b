//! Settings of the unpacker.

use std::path::PathBuf;

/// Settings of the unpacker.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory below which each snapshotter has its own.
    pub root: PathBuf,
    /// Layers unpacked at once: each takes three threads, and up to 8 MiB beside the files under way. Of those of at most
    /// 64 KiB, each of which takes one thread, four are unpacked in the place of another, over NATS up to eight.
    pub jobs: usize,
    /// Threads that make files, for all layers together.
    pub writers: usize,
    /// Whether a commit waits for the disk.
    pub flush: bool,
    /// Whether large files go past the page cache on a disk that is fast. Only if a commit waits for the disk.
    pub bypass: bool,
    /// Options for every overlay, after its directories.
    pub mount_options: Vec<String>,
    /// Whether answers about overlay snapshots tell their upper directory, as a label.
    pub upperdir_label: bool,
    /// Whether a removal erases the directory before it answers, instead of moving it aside and erasing it later.
    pub sync_remove: bool,
}

impl Config {
    /// The usual settings for snapshots below `root`.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            root,
            // More than processors: the largest layer, which all wait for in the end, shall not wait for a place.
            jobs: (2 * cores).clamp(4, 8),
            writers: cores.clamp(1, 16),
            flush: true,
            bypass: true,
            mount_options: Vec::new(),
            upperdir_label: false,
            sync_remove: false,
        }
    }
}
