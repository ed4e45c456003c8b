//! Settings of the service.

use crate::options::ClientOptions;

/// How much is done at once, and how registries are talked to.
#[derive(Clone, Debug)]
pub struct Config {
    /// The registry client's limits.
    pub client: ClientOptions,
    /// Fetch jobs at once. Most are small (manifests, configs) or only watch another's download, so they are many.
    pub jobs: usize,
    /// Downloads of large blobs at once. More connections than this do not make a link faster, and each takes a share
    /// from the layer that is needed first.
    pub large_downloads: usize,
    /// A blob of so many bytes is large; smaller ones overtake.
    pub large_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { client: ClientOptions::default(), jobs: 64, large_downloads: 8, large_bytes: 1 << 20 }
    }
}
