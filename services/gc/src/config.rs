//! Settings of the gc service.

use std::time::Duration;

/// Settings of the service.
#[derive(Clone, Debug)]
pub struct Config {
    /// The snapshotters whose directories are collected.
    pub snapshotters: Vec<String>,
    /// An ingest that nobody wrote to for so long, and no lease names, goes.
    pub ingest_age: Duration,
    /// When to collect without being asked; `None`: never.
    pub schedule: Option<Knobs>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            snapshotters: vec!["overlayfs".to_owned(), "native".to_owned()],
            ingest_age: Duration::from_secs(24 * 60 * 60),
            schedule: Some(Knobs::default()),
        }
    }
}

/// When to collect: containerd's knobs with containerd's defaults, and one of our own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knobs {
    /// The most of the time, as a fraction, that collections may take.
    pub pause_threshold: f64,
    /// Collect at once after so many deletions; 0: deletions are collected when the pause threshold allows.
    pub deletion_threshold: u64,
    /// Collect after so many changes; 0: never for that.
    pub mutation_threshold: u64,
    /// How long to wait after what caused a collection.
    pub schedule_delay: Duration,
    /// How long to wait after the start.
    pub startup_delay: Duration,
    /// Collect at least so often, for what goes by time: leases, images that expire, ingests. 0: never for that.
    pub interval: Duration,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            pause_threshold: 0.02,
            deletion_threshold: 0,
            mutation_threshold: 100,
            schedule_delay: Duration::ZERO,
            startup_delay: Duration::from_millis(100),
            interval: Duration::from_secs(60 * 60),
        }
    }
}
