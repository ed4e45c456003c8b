//! The content service's contract, and what moves bytes by its tickets.

mod document;
mod gathered;
mod pace;
mod passing;
mod reader;
mod turns;
mod writer;

use berth_wire::content as msg;

pub use document::{read_arriving_document, read_document};
pub use passing::{Follower, Stage};
pub use reader::{BlobReader, Followed};
pub use turns::Turns;
pub use writer::{BlobWriter, STORE_ID_FILE};

use crate::contract::{MANY, SLOW, contract, long_poll};

contract! {
    /// Blob files and the ingestions that become them. See `proto/berth/content/v1/content.proto`.
    trait Content, client ContentClient, router serve {
        /// Begins or resumes an ingest.
        open_ingest(msg::OpenIngestRequest);
        /// Says how far the file was written.
        advance_ingest(msg::AdvanceIngestRequest);
        /// The same, and the digest up to there.
        hash_ingest(msg::HashIngestRequest) within |_| SLOW;
        /// Cuts the ingest to zero bytes.
        restart_ingest(msg::RestartIngestRequest);
        /// Verifies, makes durable and publishes.
        commit_ingest(msg::CommitIngestRequest) within |_| SLOW;
        /// Gives the writer's place up.
        release_ingest(msg::ReleaseIngestRequest);
        /// Drops an ingest and its bytes.
        abort_ingest(msg::AbortIngestRequest);
        /// One ingest.
        stat_ingest(msg::StatIngestRequest);
        /// The ingests.
        list_ingests(msg::ListIngestsRequest);
        /// Waits for news of a blob or its ingest.
        watch_blob(msg::WatchBlobRequest) within |request| long_poll(request.wait_ms);
        /// Facts about a blob, and where to read it.
        stat_blob(msg::StatBlobRequest);
        /// Facts about those of some blobs that are there.
        stat_blobs(msg::StatBlobsRequest) within |_| MANY;
        /// The blobs.
        list_blobs(msg::ListBlobsRequest);
        /// Deletes the file of a condemned blob.
        delete_blob(msg::DeleteBlobRequest);
        /// Deletes the files of condemned blobs.
        delete_blobs(msg::DeleteBlobsRequest) within |_| SLOW;
        /// Compares records with files.
        check_blobs(msg::CheckBlobsRequest) within |_| SLOW;
        /// What the store takes of its disk.
        measure_store(msg::MeasureStoreRequest) within |_| SLOW;
    }
}
