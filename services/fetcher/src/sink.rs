//! Where downloads land: in an ingest, by the contract's blob writer; or, small ones, in memory until they are whole. And who
//! is to blame when a download fails.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use berth_api::content::{BlobWriter, Content};
use berth_model::{Code, Descriptor, Status};
use berth_telemetry::account;
use berth_wire::{content::PutBlobRequest, types::BlobPlace};
use bytes::Bytes;

use crate::fetch::BlobSink;

/// A sink whose bytes become a blob.
#[async_trait]
pub(crate) trait Landing: BlobSink {
    /// Throws all bytes away.
    async fn restart(&mut self) -> Result<(), Status>;
    /// Makes them a blob: verified and durable when this returns. FAILED_PRECONDITION: they are not what was promised. Answers
    /// where it is, if that was said.
    async fn commit(&mut self, descriptor: &Descriptor) -> Result<Option<BlobPlace>, Status>;
}

#[async_trait]
impl BlobSink for BlobWriter {
    fn offset(&self) -> u64 {
        BlobWriter::offset(self)
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Status> {
        BlobWriter::write(self, bytes).await
    }

    fn held_up(&mut self) -> Duration {
        BlobWriter::held_up(self)
    }

    async fn alive(&mut self) -> Result<(), Status> {
        self.flush().await
    }
}

#[async_trait]
impl Landing for BlobWriter {
    async fn restart(&mut self) -> Result<(), Status> {
        BlobWriter::restart(self).await
    }

    async fn commit(&mut self, descriptor: &Descriptor) -> Result<Option<BlobPlace>, Status> {
        BlobWriter::commit(self, descriptor.size, &descriptor.digest).await
    }
}

/// A small blob that is not in the store: put there by one call when it is whole. If that is never, nothing is left of it.
pub(crate) struct InMemory {
    content: Arc<dyn Content>,
    bytes: Vec<u8>,
}

impl InMemory {
    pub(crate) fn new(content: Arc<dyn Content>) -> Self {
        Self { content, bytes: Vec::new() }
    }
}

#[async_trait]
impl BlobSink for InMemory {
    fn offset(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Status> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }
}

#[async_trait]
impl Landing for InMemory {
    async fn restart(&mut self) -> Result<(), Status> {
        self.bytes.clear();
        Ok(())
    }

    async fn commit(&mut self, descriptor: &Descriptor) -> Result<Option<BlobPlace>, Status> {
        let request = PutBlobRequest { digest: descriptor.digest.to_string(), data: std::mem::take(&mut self.bytes) };
        match self.content.put_blob(request).await {
            Ok(put) => Ok(put.place),
            // By somebody else meanwhile, or by this call, whose answer was lost.
            Err(status) if status.code == Code::AlreadyExists => Ok(None),
            Err(status) => Err(status),
        }
    }
}

/// A sink that remembers whether it was the sink that failed.
pub(crate) struct Blamed<'a, S> {
    pub(crate) sink: &'a mut S,
    pub(crate) failed: bool,
}

impl<S> Blamed<'_, S> {
    fn note<T>(&mut self, result: Result<T, Status>) -> Result<T, Status> {
        self.failed |= result.is_err();
        result
    }
}

#[async_trait]
impl<S: BlobSink> BlobSink for Blamed<'_, S> {
    fn offset(&self) -> u64 {
        self.sink.offset()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Status> {
        let since = Instant::now();
        let result = self.sink.write(bytes).await;
        let held_up = self.sink.held_up();
        account::spent("unpack", held_up);
        account::spent("disk", since.elapsed().saturating_sub(held_up));
        self.note(result)
    }

    async fn alive(&mut self) -> Result<(), Status> {
        let result = self.sink.alive().await;
        self.note(result)
    }
}
