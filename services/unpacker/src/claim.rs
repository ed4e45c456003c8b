//! Which snapshot a job fills: one that was prepared for it, a new one, or none because an earlier try has filled it. Who claims
//! holds the layer's lock.

use berth_failpoint::{Point, pass};
use berth_model::{Code, Digest, Status};
use berth_wire::{
    convert,
    metadata::{PrepareSnapshotReply, PrepareSnapshotRequest},
    unpacker::{UnpackJob, UnpackOutcome},
};

use crate::{
    Service,
    snapshotter::{Snapshotter, Wanted},
    unpacked::Unpacked,
};

pub(crate) enum Claim {
    /// Its tree is there and empty.
    Fill(u64),
    /// Nothing is to be done.
    Done(UnpackOutcome),
}

/// Claims a snapshot and makes its directory. `first`: nobody was handed this job before.
pub(crate) async fn claim(
    service: &Service,
    job: &UnpackJob,
    snapshotter: &Snapshotter,
    diff_id: &Digest,
    first: bool,
) -> Result<Claim, Status> {
    if first && is_untouched(service, job, snapshotter).await? {
        make(snapshotter, job.snapshot_id, 0).await?;
        return Ok(Claim::Fill(job.snapshot_id));
    }
    let prepared = match prepare(service, job, false).await {
        // It is unpacked, or an earlier try was at it.
        Err(status) if status.code == Code::AlreadyExists => {
            if let Some(found) = found(service, job, snapshotter, diff_id).await? {
                return Ok(Claim::Done(found));
            }
            prepare(service, job, true).await?
        }
        prepared => prepared?,
    };
    let id = convert::required(prepared.snapshot.as_ref(), "snapshot")?.id;
    make(snapshotter, id, prepared.replaced_id).await?;
    Ok(Claim::Fill(id))
}

/// Whether what was prepared for the job is as it was: nobody filled it, and nothing took its place.
async fn is_untouched(service: &Service, job: &UnpackJob, snapshotter: &Snapshotter) -> Result<bool, Status> {
    if job.snapshot_id == 0 || snapshotter.layout().dir(job.snapshot_id).exists() {
        return Ok(false);
    }
    let found = service.stat(&job.namespace, &job.snapshotter, &job.snapshot_key()).await?;
    Ok(found.and_then(|found| found.snapshot).is_some_and(|snapshot| snapshot.id == job.snapshot_id))
}

/// Makes the directory of a snapshot anew, and removes the one whose place it takes.
async fn make(snapshotter: &Snapshotter, id: u64, replaced: u64) -> Result<(), Status> {
    pass(Point::SnapshotPrepared);
    let dirs = snapshotter.clone();
    berth_api::blocking(move || {
        if replaced != 0 {
            dirs.layout().remove(replaced)?;
        }
        dirs.make(id, &Wanted::default())
    })
    .await
}

/// Drops what was prepared for a job that ends before it claims anything.
pub(crate) async fn give_back(service: &Service, job: &UnpackJob, first: bool) {
    let Ok(snapshotter) = service.snapshotter(&job.snapshotter) else { return };
    if !first || job.snapshot_id == 0 || snapshotter.layout().dir(job.snapshot_id).exists() {
        return;
    }
    let key = job.snapshot_key();
    if let Err(left) = service.drop_snapshot(&job.namespace, &job.snapshotter, &key, job.snapshot_id).await {
        tracing::debug!(status = %left, "a snapshot that was prepared stays for the collection");
    }
}

/// Makes the record of an unpacking: only if there is neither one nor its snapshot, or in the place of another.
async fn prepare(service: &Service, job: &UnpackJob, replace: bool) -> Result<PrepareSnapshotReply, Status> {
    let wanted = job.snapshot();
    let unless = if replace { String::new() } else { wanted.unless };
    service.metadata().prepare_snapshot(PrepareSnapshotRequest { replace, unless, ..wanted }).await
}

/// What an earlier try has made of the layer.
async fn found(
    service: &Service,
    job: &UnpackJob,
    snapshotter: &Snapshotter,
    diff_id: &Digest,
) -> Result<Option<UnpackOutcome>, Status> {
    let key = job.snapshot_key();
    let there = service.there(&job.namespace, &job.snapshotter, [job.chain_id.clone(), key.clone()]).await?;
    if there.contains_key(&job.chain_id) {
        return Ok(Some(UnpackOutcome { existed: true, ..UnpackOutcome::default() }));
    }
    if there.contains_key(&key) { unpacked_already(service, job, &key, snapshotter, diff_id).await } else { Ok(None) }
}

/// The tree that an earlier try of the same job made, if it is whole: its outcome was lost, or its commit not reached.
async fn unpacked_already(
    service: &Service,
    job: &UnpackJob,
    key: &str,
    snapshotter: &Snapshotter,
    diff_id: &Digest,
) -> Result<Option<UnpackOutcome>, Status> {
    // It may be of a pull that ended. Kept first, then looked at again: a collection may be taking it.
    service.keep(job, key).await?;
    let Some(found) = service.stat(&job.namespace, &job.snapshotter, key).await? else { return Ok(None) };
    let id = convert::required(found.snapshot.as_ref(), "snapshot")?.id;
    let dir = snapshotter.layout().dir(id);
    let kept = berth_api::blocking(move || Unpacked::kept(&dir)).await?;
    Ok(kept.filter(|kept| kept.is_of(diff_id)).map(|kept| UnpackOutcome {
        key: key.to_owned(),
        id,
        uncompressed_size: kept.uncompressed_size,
        ..UnpackOutcome::default()
    }))
}
