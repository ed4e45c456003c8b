//! `DiffMounts`: a diff on its way into the content store. One thread walks and packs, this side writes; what is between
//! them is bounded.

use std::sync::Arc;

use berth_api::{blocking, content::BlobWriter, holding::Holding};
use berth_model::{Status, labels};
use berth_wire::{
    content::AbortIngestRequest,
    metadata::{PutContentRequest, put_content_request::Entry},
    types::Descriptor,
    unpacker::DiffMountsRequest,
};
use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, channel};

use crate::{
    Service,
    diff::{
        self,
        stream::{Packed, Packer, Packing},
    },
};

/// Pieces of half a MiB that wait to be written.
const QUEUE: usize = 8;

impl Service {
    pub(crate) async fn diff(&self, request: DiffMountsRequest) -> Result<Descriptor, Status> {
        let packing = Packing::of(&request.media_type)?;
        labels::check(&request.labels)?;
        let reference = match request.r#ref.as_str() {
            "" => format!("diff-{}", uuid::Uuid::new_v4().simple()),
            given => given.to_owned(),
        };
        let mut writer = BlobWriter::open(self.content(), &reference, None, 0).await?;
        if writer.offset() > 0 {
            writer.restart().await?;
        }
        let written = self.write_diff(&request, packing, &mut writer).await;
        let packed = match written {
            Ok(packed) => packed,
            Err(status) => {
                // Half a layer is of no use to anybody.
                let abort = AbortIngestRequest { r#ref: reference, untouched_since: None };
                if let Err(left) = self.content().abort_ingest(abort).await {
                    tracing::debug!(status = %left, "the ingest of a failed diff stays for the collection");
                }
                return Err(status);
            }
        };
        self.keep_blob(&request, packing, &packed, &mut writer).await?;
        Ok(Descriptor {
            media_type: packing.media_type().to_owned(),
            digest: packed.digest.to_string(),
            size: packed.size,
            ..Descriptor::default()
        })
    }

    async fn write_diff(
        &self,
        request: &DiffMountsRequest,
        packing: Packing,
        writer: &mut BlobWriter,
    ) -> Result<Packed, Status> {
        let (lower, upper) = (request.lower.clone(), request.upper.clone());
        let latest = request.source_date_epoch.as_ref().map(|time| time.seconds);
        let layout = self.scratch_layout()?;
        let (to, from) = channel(QUEUE);
        let walk = blocking(move || {
            let scratch = layout.scratch()?;
            let packer = Packer::new(packing, to).map_err(|error| Status::internal(format!("diff: {error}")))?;
            let packer = diff::write(&lower, &upper, &scratch, latest, packer)?;
            packer.finish().map_err(|error| Status::internal(format!("diff: end the stream: {error}")))
        });
        let gone = berth_bus::caller_gone();
        // If the writing fails, or nobody waits for it any more, the queue closes, and the walk ends with that.
        let written = async {
            let unwanted = || Status::cancelled("diff: whoever asked for it left");
            gone.run_until_cancelled(write_all(from, writer)).await.unwrap_or_else(|| Err(unwanted()))
        };
        let (packed, written) = tokio::join!(walk, written);
        written?;
        packed
    }

    /// Commits the blob and records it; a lease holds it in between.
    async fn keep_blob(
        &self,
        request: &DiffMountsRequest,
        packing: Packing,
        packed: &Packed,
        writer: &mut BlobWriter,
    ) -> Result<(), Status> {
        let metadata = Arc::clone(self.metadata());
        let holding = Holding::begin(metadata, &request.namespace, &request.lease, &packed.digest).await?;
        let kept = self.commit_and_record(request, packing, packed, writer).await;
        holding.end().await;
        kept
    }

    async fn commit_and_record(
        &self,
        request: &DiffMountsRequest,
        packing: Packing,
        packed: &Packed,
        writer: &mut BlobWriter,
    ) -> Result<(), Status> {
        writer.commit(packed.size, &packed.digest).await?;
        let mut labels = request.labels.clone();
        labels.insert(labels::UNCOMPRESSED.to_owned(), packed.diff_id.to_string());
        let entry = Entry {
            digest: packed.digest.to_string(),
            size: packed.size,
            labels,
            media_type: packing.media_type().to_owned(),
            ..Entry::default()
        };
        let record = PutContentRequest {
            namespace: request.namespace.clone(),
            entries: vec![entry],
            lease: request.lease.clone(),
        };
        self.metadata().put_content(record).await?;
        Ok(())
    }
}

async fn write_all(mut from: Receiver<Bytes>, writer: &mut BlobWriter) -> Result<(), Status> {
    while let Some(piece) = from.recv().await {
        writer.write(piece).await?;
    }
    writer.flush().await
}
