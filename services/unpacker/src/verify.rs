//! Whether an unpacked snapshot is still what its layer says: the layer is unpacked once more beside it, and the two are
//! compared. If they differ, the new one may take the old one's place; who has the old one mounted keeps it.

use std::{fs, sync::atomic::AtomicU64};

use berth_api::{blocking, content::BlobReader};
use berth_model::{Descriptor, Digest, Status};
use berth_wire::{
    convert,
    metadata::{Snapshot, snapshot::Kind},
    unpacker::{VerifySnapshotReply, VerifySnapshotRequest},
};
use rustix::fs::{CWD, RenameFlags};

use crate::{
    Service,
    compare::{Timed, compare},
    lock::Lock,
    snapshots::PATIENCE,
    snapshotter::{Snapshotter, Wanted},
    unpacked::Unpacked,
    worker::apply_blob,
};

/// Differences told of one snapshot.
const MOST: usize = 20;

impl Service {
    pub(crate) async fn verify(&self, request: VerifySnapshotRequest) -> Result<VerifySnapshotReply, Status> {
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let (snapshot, parents) = self.existing(&request.namespace, &request.snapshotter, &request.key).await?;
        // An active one is made when its mounts are asked for, and is whatever somebody makes of it.
        if snapshot.kind() != Kind::Committed {
            return Ok(VerifySnapshotReply::default());
        }
        let there = snapshotter.layout().tree(snapshot.id).is_dir();
        let missing = || vec![format!("{} is missing", snapshotter.layout().tree(snapshot.id).display())];
        let Some(layer) = request.layer.as_ref().filter(|_| request.deep || (!there && request.repair)) else {
            let faults = if there { Vec::new() } else { missing() };
            return Ok(VerifySnapshotReply { faults, ..VerifySnapshotReply::default() });
        };
        let again = Again { layer: Descriptor::try_from(layer)?, diff_id: convert::digest(&request.diff_id)?, parents };
        let (made, timed) = self.unpack_again(&snapshotter, &snapshot, &again).await?;
        let read = again.layer.size;
        let (faults, more_faults) = if there {
            let layout = snapshotter.layout().clone();
            blocking(move || compare(&layout.tree(snapshot.id), &layout.tree(made), &timed, MOST)).await?
        } else {
            (missing(), false)
        };
        let repaired = request.repair && !faults.is_empty();
        if repaired {
            self.replace(&snapshotter, snapshot.id, made, there).await?;
        }
        let layout = snapshotter.layout().clone();
        blocking(move || layout.remove(made)).await?;
        Ok(VerifySnapshotReply { faults, more_faults, repaired, read })
    }

    /// Unpacks the layer into a directory of its own, which has no record: if nobody removes it, a collection does.
    /// Answers its id, and the directories whose times the layer tells.
    async fn unpack_again(
        &self,
        trees: &Snapshotter,
        snapshot: &Snapshot,
        again: &Again,
    ) -> Result<(u64, Timed), Status> {
        // No snapshot comes as far as to such an id.
        let made = u64::MAX - snapshot.id;
        let (trees, writers) = (trees.clone(), self.writers());
        let Again { layer, diff_id, parents } = again.clone();
        let gone = berth_bus::caller_gone();
        let cancelled = move || gone.is_cancelled();
        let reader =
            BlobReader::new(self.content(), tokio::runtime::Handle::current(), layer.digest, cancelled.clone());
        blocking(move || {
            trees.make(made, &Wanted::default())?;
            let dir = trees.layout().dir(made);
            let applied = apply_blob(reader, &AtomicU64::new(0), None, &dir, &layer, &writers, &cancelled)?;
            let fetched_anew = || Status::unavailable("the layer was fetched anew meanwhile");
            let streamed = applied.ok_or_else(fetched_anew)?.streamed;
            if streamed.diff_id != diff_id {
                return Err(Status::data_loss(format!(
                    "layer {} has diff id {}, and its image promises {diff_id}",
                    layer.digest, streamed.diff_id
                )));
            }
            let kept = Unpacked::kept(&dir)?.ok_or_else(|| Status::internal("what was just unpacked is gone"))?;
            trees.settle(made, &parents)?;
            trees.committed(made)?;
            Ok((made, kept.residue.times.into_iter().map(|(place, _)| place).collect()))
        })
        .await
    }

    /// Puts the new directory in the place of the old one, in one step and for good.
    async fn replace(&self, trees: &Snapshotter, id: u64, made: u64, there: bool) -> Result<(), Status> {
        let layout = trees.layout().clone();
        let _lock = Lock::on_dir(&layout.dir(id), PATIENCE).await?;
        let flush = self.flush();
        blocking(move || {
            let (old, new) = (layout.dir(id), layout.dir(made));
            if flush {
                layout.flush(made)?;
            }
            if there {
                rustix::fs::renameat_with(CWD, &new, CWD, &old, RenameFlags::EXCHANGE)
                    .map_err(|errno| Status::io("replace", &old, &errno.into()))?;
            } else {
                layout.doom(id)?;
                fs::rename(&new, &old).map_err(|error| Status::io("replace", &old, &error))?;
            }
            if flush { layout.flush(id) } else { Ok(()) }
        })
        .await
    }
}

/// What a snapshot was made from.
#[derive(Clone)]
struct Again {
    layer: Descriptor,
    diff_id: Digest,
    /// Newest first.
    parents: Vec<u64>,
}
