//! Settings of many pulls at once. The numbers are for services in processes of their own; in one process they follow the
//! workers there.

use std::time::Duration;

use crate::duration;

/// How many jobs of all pulls together are handed to the workers. More than they can begin soon are not shared out fairly:
/// the queue takes them as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pulls {
    /// Layers of less than 1 MiB fetched at once.
    pub small_downloads: usize,
    /// Other layers fetched at once: 8 for each fetcher.
    pub large_downloads: usize,
    /// Connections for one large layer of a registry that is far, without those that bring their last bytes; 1: never more.
    pub connections_per_layer: usize,
    /// HTTP/2 with registries that have it.
    pub http2: bool,
    /// Layers unpacked at once: the cores of all unpackers.
    pub unpacks: usize,
    /// A pull that nobody waits for ends after so long, unless it is detached; so does one that was interrupted by a restart.
    #[serde(with = "duration")]
    pub abandoned_after: Duration,
    /// A command that waits for a pull waits so long for a daemon that went away.
    #[serde(with = "duration")]
    pub wait_for_daemon: Duration,
}

impl Default for Pulls {
    fn default() -> Self {
        // Four fetchers and four unpackers.
        Self {
            small_downloads: 128,
            large_downloads: 32,
            connections_per_layer: 4,
            http2: true,
            unpacks: 32,
            abandoned_after: Duration::from_secs(30),
            wait_for_daemon: Duration::from_secs(60),
        }
    }
}

impl Pulls {
    /// What is wrong with it.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.abandoned_after < Duration::from_secs(1) {
            return Some("pulls.abandoned_after must be at least 1s".to_owned());
        }
        if !(1..=4).contains(&self.connections_per_layer) {
            return Some("pulls.connections_per_layer must be 1 to 4".to_owned());
        }
        let all = [
            ("small_downloads", self.small_downloads),
            ("large_downloads", self.large_downloads),
            ("unpacks", self.unpacks),
        ];
        let wrong = all.iter().find(|(_, value)| !(1..=1024).contains(value));
        wrong.map(|(name, _)| format!("pulls.{name} must be 1 to 1024"))
    }
}
