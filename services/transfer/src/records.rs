//! The records a pull leaves: content labels, the lease meanwhile, the image last.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use berth_api::{holding::while_busy, metadata::Metadata};
use berth_model::{Descriptor, Digest, Reference, Status, labels};
use berth_wire::{metadata as msg, types};

/// The lease that protects what a pull fetches: it begins and ends with the pull's record.
pub(crate) struct Lease {
    pub(crate) metadata: Arc<dyn Metadata>,
    pub(crate) namespace: String,
    pub(crate) id: String,
}

impl Lease {
    /// Protects blobs and their ingests. Waits for a deletion of one of them to end.
    pub(crate) async fn protect(&self, descriptors: &[Descriptor]) -> Result<(), Status> {
        let of = |d: &Descriptor| [resource("content", d.digest.to_string()), resource("ingests", d.ingest_ref())];
        self.add(descriptors.iter().flat_map(of).collect()).await
    }

    /// Protects snapshots by the names that they will have, those that are there and those that will be, and prepares what is
    /// neither there nor begun.
    pub(crate) async fn prepare(
        &self,
        wanted: &[msg::PrepareSnapshotRequest],
    ) -> Result<Vec<msg::prepare_snapshots_reply::Prepared>, Status> {
        let request = msg::PrepareSnapshotsRequest { snapshots: wanted.to_vec() };
        let prepared = while_busy(|| self.metadata.prepare_snapshots(request.clone())).await?.snapshots;
        if prepared.len() == wanted.len() {
            Ok(prepared)
        } else {
            Err(Status::internal(format!("{} of {} snapshots were answered for", prepared.len(), wanted.len())))
        }
    }

    async fn add(&self, resources: Vec<msg::Resource>) -> Result<(), Status> {
        while_busy(|| {
            self.metadata.add_lease_resources(msg::AddLeaseResourcesRequest {
                namespace: self.namespace.clone(),
                id: self.id.clone(),
                resources: resources.clone(),
            })
        })
        .await
        .map(|_| ())
    }

    /// Lets it last so long from now.
    pub(crate) async fn renew(&self, lasts: Duration) {
        let request = msg::RenewLeaseRequest {
            namespace: self.namespace.clone(),
            id: self.id.clone(),
            expires_in_seconds: lasts.as_secs(),
        };
        if let Err(status) = self.metadata.renew_lease(request).await {
            tracing::warn!(%status, "the lease of a pull could not be renewed");
        }
    }
}

fn resource(r#type: &str, id: String) -> msg::Resource {
    msg::Resource { r#type: r#type.to_owned(), id }
}

/// The content records of a pull, gathered and written in one batch.
#[derive(Default)]
pub(crate) struct ContentRecords {
    entries: BTreeMap<Digest, (Descriptor, labels::Labels)>,
}

impl ContentRecords {
    /// Adds a blob with labels; labels of a blob that was added before are joined.
    pub(crate) fn add(&mut self, descriptor: &Descriptor, more: labels::Labels) {
        let entry =
            self.entries.entry(descriptor.digest).or_insert_with(|| (descriptor.clone(), labels::Labels::new()));
        entry.1.extend(more);
    }

    pub(crate) async fn write(
        self,
        metadata: &Arc<dyn Metadata>,
        namespace: &str,
        reference: &Reference,
        lease: &str,
    ) -> Result<(), Status> {
        let (source_key, source_repository) = labels::distribution_source(reference.registry(), reference.repository());
        let entries: Vec<msg::put_content_request::Entry> = self
            .entries
            .into_iter()
            .map(|(digest, (descriptor, labels))| msg::put_content_request::Entry {
                digest: digest.to_string(),
                size: descriptor.size,
                labels,
                media_type: descriptor.media_type.to_string(),
                source_key: source_key.clone(),
                source_repository: source_repository.clone(),
            })
            .collect();
        while_busy(|| {
            metadata.put_content(msg::PutContentRequest {
                namespace: namespace.to_owned(),
                entries: entries.clone(),
                lease: lease.to_owned(),
            })
        })
        .await
        .map(|_| ())
    }
}

/// Writes the image record: the last thing a pull does.
pub(crate) async fn put_image(
    metadata: &Arc<dyn Metadata>,
    namespace: &str,
    reference: &Reference,
    target: &Descriptor,
    labels: &labels::Labels,
    lease: &str,
) -> Result<(), Status> {
    let image = msg::Image {
        name: reference.to_string(),
        labels: labels.clone(),
        target: Some(types::Descriptor::from(target)),
        ..msg::Image::default()
    };
    metadata
        .put_image(msg::PutImageRequest {
            namespace: namespace.to_owned(),
            image: Some(image),
            mode: msg::put_image_request::Mode::Upsert.into(),
            lease: lease.to_owned(),
            at: None,
        })
        .await
        .map(|_| ())
}
