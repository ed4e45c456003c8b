//! The jobs: which queue, what they report, and which of them are equal.

use berth_model::labels;

use crate::{Job, fetcher, metadata, unpacker};

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

impl unpacker::UnpackJob {
    /// The key of the snapshot that its layer is unpacked into. The same for every try, so that the next one takes the place of
    /// one that died.
    #[must_use]
    pub fn snapshot_key(&self) -> String {
        format!("extract-{}", self.chain_id)
    }

    /// How that snapshot is prepared.
    #[must_use]
    pub fn snapshot(&self) -> metadata::PrepareSnapshotRequest {
        metadata::PrepareSnapshotRequest {
            namespace: self.namespace.clone(),
            snapshotter: self.snapshotter.clone(),
            key: self.snapshot_key(),
            kind: metadata::snapshot::Kind::Active.into(),
            lease: self.lease.clone(),
            labels: [(labels::UNPACKING.to_owned(), self.chain_id.clone())].into(),
            unless: self.chain_id.clone(),
            ..metadata::PrepareSnapshotRequest::default()
        }
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
