//! What takes the disk: each service measures its own directory; a dry run says what a collection would give back.

use berth_api::measure::add;
use berth_model::Status;
use berth_wire::{
    content::MeasureStoreRequest,
    gc::{MeasureDiskReply, Summary},
    metadata::{MeasureImagesRequest, MeasureRecordsRequest},
    types::Measure,
    unpacker::MeasureSnapshotsRequest,
};

use crate::{collect::Backend, numbers};

/// Adds it all up.
pub(crate) async fn measure(
    backend: &Backend,
    snapshotters: &[String],
    reclaimable: Summary,
) -> Result<MeasureDiskReply, Status> {
    let (mut snapshots, mut other) = (Measure::default(), Measure::default());
    let store = backend.content.measure_store(MeasureStoreRequest {}).await?;
    add(&mut other, &store.other.unwrap_or_default());
    let records = backend.metadata.measure_records(MeasureRecordsRequest {}).await?;
    add(&mut other, &records.database.unwrap_or_default());
    for snapshotter in snapshotters {
        let request = MeasureSnapshotsRequest { snapshotter: snapshotter.clone() };
        let measured = backend.unpacker.measure_snapshots(request).await?;
        add(&mut snapshots, &measured.snapshots.unwrap_or_default());
        add(&mut other, &measured.other.unwrap_or_default());
    }
    let images = MeasureImagesRequest { limit: 1, ..MeasureImagesRequest::default() };
    let images = backend.metadata.measure_images(images).await?;
    let disk = MeasureDiskReply {
        blobs: store.blobs,
        ingests: store.ingests,
        snapshots: Some(snapshots),
        other: Some(other),
        reclaimable: Some(reclaimable),
        images: images.images_total,
        image_content: images.content_total,
        image_snapshots: images.snapshots_total,
    };
    numbers::measured(&disk);
    Ok(disk)
}
