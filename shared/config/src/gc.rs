//! Settings of collection: containerd's names and defaults, and three of our own.

use std::time::Duration;

use crate::duration;

/// When collections run by themselves, and what is old.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gc {
    /// Whether the daemon collects without being asked.
    pub schedule: bool,
    /// The most of the time, as a fraction, that collections may take.
    pub pause_threshold: f64,
    /// Collect at once after so many deletions; 0: when the pause threshold allows.
    pub deletion_threshold: u64,
    /// Collect after so many changes; 0: never for that.
    pub mutation_threshold: u64,
    /// How long to wait after what caused a collection.
    #[serde(with = "duration")]
    pub schedule_delay: Duration,
    /// How long to wait after the start.
    #[serde(with = "duration")]
    pub startup_delay: Duration,
    /// Collect at least so often, for what goes by time; 0: never for that.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// An ingest that nobody wrote to for so long goes.
    #[serde(with = "duration")]
    pub ingest_age: Duration,
}

impl Default for Gc {
    fn default() -> Self {
        Self {
            schedule: true,
            pause_threshold: 0.02,
            deletion_threshold: 0,
            mutation_threshold: 100,
            schedule_delay: Duration::ZERO,
            startup_delay: Duration::from_millis(100),
            interval: Duration::from_secs(60 * 60),
            ingest_age: Duration::from_secs(24 * 60 * 60),
        }
    }
}

impl Gc {
    /// What is wrong with it.
    pub(crate) fn fault(&self) -> Option<String> {
        // As containerd: more than half of the time is a mistake.
        (!(0.0..=0.5).contains(&self.pause_threshold)).then(|| "gc.pause_threshold must be 0 to 0.5".to_owned())
    }
}
