//! Settings of the service.

use crate::options::ClientOptions;

/// How much is done at once, and how registries are talked to.
#[derive(Clone, Debug)]
pub struct Config {
    /// The registry client's limits.
    pub client: ClientOptions,
    /// Fetch jobs at once. Most are small (manifests, configs) or only watch another's download, so they are many.
    pub jobs: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { client: ClientOptions::default(), jobs: 64 }
    }
}
