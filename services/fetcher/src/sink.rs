//! The contract's blob writer as the download's sink, and who is to blame when a download fails.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use berth_api::content::BlobWriter;
use berth_model::Status;
use berth_telemetry::account;
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

    fn held_up(&mut self) -> Duration {
        BlobWriter::held_up(self)
    }

    async fn rest(&mut self) -> Result<(), Status> {
        self.catch_up().await
    }

    async fn alive(&mut self) -> Result<(), Status> {
        self.flush().await
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

    async fn rest(&mut self) -> Result<(), Status> {
        let result = self.sink.rest().await;
        self.note(result)
    }

    async fn alive(&mut self) -> Result<(), Status> {
        let result = self.sink.alive().await;
        self.note(result)
    }
}
