//! The contract's blob writer as the download's sink.

use async_trait::async_trait;
use berth_api::content::BlobWriter;
use berth_model::Status;
use bytes::Bytes;

use crate::fetch::BlobSink;

#[async_trait]
impl BlobSink for BlobWriter {
    fn offset(&self) -> u64 {
        BlobWriter::offset(self)
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Status> {
        BlobWriter::write(self, bytes).await
    }

    async fn alive(&mut self) -> Result<(), Status> {
        self.flush().await
    }
}
