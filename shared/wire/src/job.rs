//! The jobs: which queue, what they report, and which of them are equal.

use crate::{Job, fetcher, unpacker};

/// The blob of a small layer has at most so many bytes: unpacking it takes next to no time beside waiting for the disk.
pub const SMALL_LAYER: u64 = 64 << 10;

impl Job for fetcher::FetchJob {
    const KIND: &'static str = "fetch";
    type Progress = fetcher::FetchProgress;
    type Outcome = fetcher::FetchOutcome;

    fn key(&self) -> String {
        self.descriptor.as_ref().map(|descriptor| descriptor.digest.clone()).unwrap_or_default()
    }
}

impl Job for unpacker::UnpackJob {
    const KIND: &'static str = "unpack";
    type Progress = unpacker::UnpackProgress;
    type Outcome = unpacker::UnpackOutcome;

    fn key(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.snapshotter, self.chain_id)
    }

    fn is_small(&self) -> bool {
        self.layer.as_ref().is_some_and(|layer| layer.size <= SMALL_LAYER)
    }
}

/// The full name of the message of a kind of jobs, by which [`crate::DESCRIPTORS`] describes it.
#[must_use]
pub fn message_of(kind: &str) -> Option<&'static str> {
    match kind {
        fetcher::FetchJob::KIND => Some("berth.fetcher.v1.FetchJob"),
        unpacker::UnpackJob::KIND => Some("berth.unpacker.v1.UnpackJob"),
        _ => None,
    }
}

impl std::fmt::Debug for fetcher::Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("username", &self.username)
            .field("secret", &if self.secret.is_empty() { "none" } else { "(hidden)" })
            .field("plain_http", &self.plain_http)
            .finish()
    }
}
