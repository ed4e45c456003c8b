//! A collection, from mark to end. Each phase stands alone: where one fails, what it left goes with the next collection.

use std::{sync::Arc, time::Duration};

use berth_api::{content::Content, metadata::Metadata, pull_records::PullRecords, unpacker::Unpacker};
use berth_bus::Bus;
use berth_model::{Code, Status};
use berth_wire::{
    gc::{Item, item::Outcome},
    metadata::EndMarkRequest,
};

use crate::{blobs, directories, ingests, records, report::Report, watching::Watching};

/// The services a collection works through.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) content: Arc<dyn Content>,
    pub(crate) metadata: Arc<dyn Metadata>,
    pub(crate) unpacker: Arc<dyn Unpacker>,
    pub(crate) pulls: Arc<dyn PullRecords>,
    pub(crate) bus: Bus,
}

/// One collection.
pub(crate) struct Collection<'a> {
    pub(crate) backend: &'a Backend,
    pub(crate) report: &'a Report,
    pub(crate) dry_run: bool,
}

/// A completed mark.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) id: String,
    /// Whose records they are.
    pub(crate) owner: String,
    pub(crate) _watching: Watching,
}

/// Collects.
pub(crate) async fn collect(
    backend: &Backend,
    report: &Report,
    dry_run: bool,
    snapshotters: &[String],
    ingest_age: Duration,
) -> Result<(), Status> {
    let run = Collection { backend, report, dry_run };
    report.stage("looking at what is referred to");
    let mut mark = records::mark(&run).await?;
    let done = phases(&run, &mut mark, snapshotters, ingest_age).await;
    let ended = backend.metadata.end_mark(EndMarkRequest { mark_id: mark.id }).await;
    if let Err(status) = ended {
        tracing::debug!(%status, "a mark was not ended; it ends by silence");
    }
    let summary = report.summary();
    tracing::info!(
        dry_run,
        records = summary.records,
        images = summary.images,
        contents = summary.contents,
        snapshots = summary.snapshots,
        leases = summary.leases,
        blobs = summary.blobs.unwrap_or_default().count,
        directories = summary.directories.unwrap_or_default().count,
        ingests = summary.ingests.unwrap_or_default().count,
        failed = summary.failed,
        "collected"
    );
    done
}

async fn phases(
    run: &Collection<'_>,
    mark: &mut Mark,
    snapshotters: &[String],
    ingest_age: Duration,
) -> Result<(), Status> {
    if run.dry_run {
        records::list(run, mark).await?;
    } else {
        run.report.stage("removing records");
        records::sweep(run, mark).await?;
    }
    run.report.stage("removing blobs");
    blobs::collect(run, mark).await?;
    for snapshotter in snapshotters {
        run.report.stage("removing directories of snapshots");
        // A node without an unpacker, or one that may not touch directories, still collects the rest.
        if let Err(status) = directories::collect(run, snapshotter).await {
            run.failed(&format!("directories/{snapshotter}"), "", &status);
        }
    }
    run.report.stage("removing ingests");
    ingests::collect(run, ingest_age).await
}

impl Collection<'_> {
    /// What becomes of what is found.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.dry_run { Outcome::WouldGo } else { Outcome::Removed }
    }

    /// An item that belongs to no namespace.
    pub(crate) fn item(&self, r#type: &str, id: &str, size: u64) -> Item {
        Item { outcome: self.outcome().into(), r#type: r#type.to_owned(), id: id.to_owned(), size, ..Item::default() }
    }

    /// Says that something could not be collected.
    pub(crate) fn failed(&self, r#type: &str, id: &str, status: &Status) {
        tracing::warn!(r#type, id, %status, "not collected");
        let (outcome, note) = (Outcome::Failed.into(), status.to_string());
        self.report.add([Item { outcome, r#type: r#type.to_owned(), id: id.to_owned(), note, ..Item::default() }]);
    }
}

/// Whether somebody else made it unnecessary or impossible, which is fine.
pub(crate) fn is_settled(status: &Status) -> bool {
    matches!(status.code, Code::NotFound | Code::FailedPrecondition)
}
