//! A check: is everything there that records promise, and are the bytes what their names say? And mending it.
//!
//! First the blob files (by content, which owns them), then what images and records need of them, then the unpacked
//! snapshots (by the unpacker). What is damaged is taken out and fetched again from where the image came from, or
//! unpacked again from its blob.

mod blobs;
mod images;
mod records;
mod snapshots;
mod sources;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use berth_model::{Descriptor, Digest, Status};
use berth_wire::{
    gc::{Check, Item, item::Outcome},
    metadata::PullRecord,
};

use crate::{collect::Backend, report::Report};

/// One check, and what it knows so far.
pub(super) struct Checking<'a> {
    backend: &'a Backend,
    report: &'a Report,
    wanted: Check,
    /// Blobs that are there and, as far as was looked, whole: with their sizes.
    present: HashMap<Digest, u64>,
    /// What is wrong with the others that were found.
    lost: BTreeMap<Digest, String>,
    /// Blobs that were dealt with: nothing is told or fetched twice.
    settled: BTreeSet<Digest>,
    /// By namespace and chain id: what its snapshot was unpacked from.
    layers: HashMap<(String, Digest), Unpacked>,
    /// Those that are remembered, once somebody asked.
    pulls: Option<Vec<PullRecord>>,
}

/// The layer that a snapshot shows.
#[derive(Clone, Debug)]
struct Unpacked {
    layer: Descriptor,
    diff_id: Digest,
}

/// Checks everything.
pub(crate) async fn check(
    backend: &Backend,
    report: &Report,
    wanted: Check,
    snapshotters: &[String],
) -> Result<(), Status> {
    let mut checking = Checking {
        backend,
        report,
        wanted,
        present: HashMap::new(),
        lost: BTreeMap::new(),
        settled: BTreeSet::new(),
        layers: HashMap::new(),
        pulls: None,
    };
    report.stage("looking at blobs");
    checking.blobs().await?;
    let namespaces = records::namespaces(backend).await?;
    for namespace in &namespaces {
        report.stage("looking at images");
        checking.images(namespace).await?;
        report.stage("looking at records");
        checking.records(namespace).await?;
    }
    checking.unneeded();
    report.stage("looking at snapshots");
    for snapshotter in snapshotters {
        for namespace in &namespaces {
            checking.snapshots(namespace, snapshotter).await?;
        }
    }
    Ok(())
}

impl Checking<'_> {
    /// Tells of one thing that is not as it should be, or was not.
    fn tell(&self, outcome: Outcome, namespace: &str, r#type: &str, id: &str, note: String) {
        self.report.add([Item {
            outcome: outcome.into(),
            namespace: namespace.to_owned(),
            r#type: r#type.to_owned(),
            id: id.to_owned(),
            size: 0,
            note,
        }]);
    }

    /// What is wrong with a blob that is not there.
    fn fault(&self, digest: &Digest) -> String {
        self.lost.get(digest).cloned().unwrap_or_else(|| "its bytes are missing".to_owned())
    }

    /// Damaged blobs that nothing needs.
    fn unneeded(&self) {
        for (digest, fault) in self.lost.iter().filter(|(digest, _)| !self.settled.contains(digest)) {
            let (outcome, note) = if self.wanted.repair {
                (Outcome::Mended, format!("{fault}; nothing needs it, and it was taken out"))
            } else {
                (Outcome::Damaged, format!("{fault}; nothing needs it"))
            };
            self.tell(outcome, "", "blobs", &digest.to_string(), note);
        }
    }
}
