//! Snapshots: each record needs its directory; and what was unpacked must be what its layer says.

use berth_model::{Digest, Status};
use berth_wire::{
    gc::item::Outcome,
    metadata::ListSnapshotsRequest,
    types,
    unpacker::{VerifySnapshotReply, VerifySnapshotRequest},
};

use super::Checking;

/// Differences told of one snapshot.
const TOLD: usize = 5;

impl Checking<'_> {
    /// Looks at all snapshots of a namespace.
    pub(super) async fn snapshots(&mut self, namespace: &str, snapshotter: &str) -> Result<(), Status> {
        let mut after = String::new();
        loop {
            let request = ListSnapshotsRequest {
                namespace: namespace.to_owned(),
                snapshotter: snapshotter.to_owned(),
                after,
                ..ListSnapshotsRequest::default()
            };
            let page = self.backend.metadata.list_snapshots(request).await?;
            let last = page.snapshots.last().map(|snapshot| snapshot.name.clone());
            for snapshot in &page.snapshots {
                self.snapshot(namespace, snapshotter, &snapshot.name).await?;
            }
            match last.filter(|_| page.more) {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    async fn snapshot(&self, namespace: &str, snapshotter: &str, name: &str) -> Result<(), Status> {
        let chain_id = name.parse::<Digest>().ok();
        let unpacked = chain_id.and_then(|chain_id| self.layers.get(&(namespace.to_owned(), chain_id)));
        let request = VerifySnapshotRequest {
            namespace: namespace.to_owned(),
            snapshotter: snapshotter.to_owned(),
            key: name.to_owned(),
            layer: unpacked.map(|unpacked| types::Descriptor::from(&unpacked.layer)),
            diff_id: unpacked.map(|unpacked| unpacked.diff_id.to_string()).unwrap_or_default(),
            deep: self.wanted.deep,
            repair: self.wanted.repair,
        };
        let r#type = format!("snapshots/{snapshotter}");
        match self.backend.unpacker.verify_snapshot(request).await {
            Ok(found) => {
                self.report.count(|summary| {
                    summary.checked += 1;
                    summary.read_bytes += found.read;
                });
                if !found.faults.is_empty() {
                    let outcome = if found.repaired { Outcome::Mended } else { Outcome::Damaged };
                    self.tell(outcome, namespace, &r#type, name, note(&found));
                }
            }
            Err(status) => self.tell(Outcome::Failed, namespace, &r#type, name, status.to_string()),
        }
        Ok(())
    }
}

fn note(found: &VerifySnapshotReply) -> String {
    let told: Vec<&str> = found.faults.iter().take(TOLD).map(String::as_str).collect();
    let more = if found.more_faults || found.faults.len() > TOLD { ", and more" } else { "" };
    let mended = if found.repaired { "; unpacked again" } else { "" };
    format!("{}{more}{mended}", told.join(", "))
}
