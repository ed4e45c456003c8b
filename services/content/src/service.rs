//! The contract, each method handed to the file that knows how. What changes something runs detached from its caller.

use std::sync::Arc;

use berth_api::content::Content;
use berth_model::{Digest, Status};
use berth_wire::{content as msg, convert};

use crate::{
    Config, blobs, commit, inspection, listing, measure,
    state::{State, detached},
    store::{Disk, Host},
    watch, writing,
};

/// The content service.
pub struct Service {
    state: Arc<State>,
}

impl Service {
    /// Opens the store: takes its lock, and makes table and directories agree.
    ///
    /// FAILED_PRECONDITION: somebody else has it open.
    pub async fn open(config: Config) -> Result<Arc<Self>, Status> {
        let disk = Host::new(config.durability);
        Self::open_on(config, Arc::new(disk)).await
    }

    /// Opens the store on a disk that may be a test's.
    pub(crate) async fn open_on(config: Config, disk: Arc<dyn Disk>) -> Result<Arc<Self>, Status> {
        Ok(Arc::new(Self { state: State::open(config, disk).await? }))
    }

    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }
}

/// A digest of a request that may be left out.
pub(crate) fn optional(digest: &str) -> Result<Option<Digest>, Status> {
    if digest.is_empty() { Ok(None) } else { convert::digest(digest).map(Some) }
}

#[async_trait::async_trait]
impl Content for Service {
    async fn open_ingest(&self, request: msg::OpenIngestRequest) -> Result<msg::OpenIngestReply, Status> {
        detached(writing::open(self.state(), request)).await
    }

    async fn advance_ingest(&self, request: msg::AdvanceIngestRequest) -> Result<msg::AdvanceIngestReply, Status> {
        writing::advance(&self.state, request).await
    }

    async fn hash_ingest(&self, request: msg::HashIngestRequest) -> Result<msg::HashIngestReply, Status> {
        writing::hash(&self.state, request).await
    }

    async fn restart_ingest(&self, request: msg::RestartIngestRequest) -> Result<msg::RestartIngestReply, Status> {
        detached(writing::restart(self.state(), request)).await
    }

    async fn commit_ingest(&self, request: msg::CommitIngestRequest) -> Result<msg::CommitIngestReply, Status> {
        detached(commit::commit(self.state(), request)).await
    }

    async fn release_ingest(&self, request: msg::ReleaseIngestRequest) -> Result<msg::ReleaseIngestReply, Status> {
        detached(writing::release(self.state(), request)).await
    }

    async fn abort_ingest(&self, request: msg::AbortIngestRequest) -> Result<msg::AbortIngestReply, Status> {
        detached(writing::abort(self.state(), request)).await
    }

    async fn stat_ingest(&self, request: msg::StatIngestRequest) -> Result<msg::Ingest, Status> {
        listing::stat(&self.state, request).await
    }

    async fn list_ingests(&self, request: msg::ListIngestsRequest) -> Result<msg::ListIngestsReply, Status> {
        listing::list(&self.state, request).await
    }

    async fn watch_blob(&self, request: msg::WatchBlobRequest) -> Result<msg::WatchBlobReply, Status> {
        watch::watch(&self.state, request).await
    }

    async fn stat_blob(&self, request: msg::StatBlobRequest) -> Result<msg::StatBlobReply, Status> {
        blobs::stat(&self.state, request).await
    }

    async fn stat_blobs(&self, request: msg::StatBlobsRequest) -> Result<msg::StatBlobsReply, Status> {
        blobs::stat_many(&self.state, request).await
    }

    async fn list_blobs(&self, request: msg::ListBlobsRequest) -> Result<msg::ListBlobsReply, Status> {
        blobs::list(&self.state, request).await
    }

    async fn delete_blob(&self, request: msg::DeleteBlobRequest) -> Result<msg::DeleteBlobReply, Status> {
        detached(blobs::delete(self.state(), request)).await
    }
    async fn delete_blobs(&self, request: msg::DeleteBlobsRequest) -> Result<msg::DeleteBlobsReply, Status> {
        detached(blobs::delete_many(self.state(), request)).await
    }

    async fn check_blobs(&self, request: msg::CheckBlobsRequest) -> Result<msg::CheckBlobsReply, Status> {
        detached(inspection::check(self.state(), request)).await
    }

    async fn measure_store(&self, _: msg::MeasureStoreRequest) -> Result<msg::MeasureStoreReply, Status> {
        measure::measure(&self.state).await
    }
}
