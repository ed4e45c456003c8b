//! Snapshots one by one: the unpacker owns the directories, metadata the records, and here the two go together.
//!
//! A record comes first and goes first: a directory without a record is garbage, never the other way round. A snapshot
//! whose directory a crash has kept from being made is made when its mounts are asked for.

use std::time::Duration;

use berth_api::blocking;
use berth_failpoint::{Point, pass};
use berth_model::{Code, Status, labels};
use berth_wire::{
    convert,
    metadata::{
        CommitSnapshotRequest, ListSnapshotsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, Snapshot,
        StatSnapshotRequest, UpdateSnapshotRequest, snapshot::Kind,
    },
    types::{Mount, Usage},
    unpacker as msg,
};

use crate::{
    Service, idmap,
    lock::Lock,
    snapshotter::{Snapshotter, Wanted},
};

/// How long a call waits for another one that makes or commits the same snapshot, which another process may be doing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long a snapshot may be in the making: where snapshots are copies that takes a while.
const MAKING: Duration = Duration::from_secs(300);
/// No snapshot has this id.
const NO_ID: u64 = u64::MAX;
/// A page of snapshots: with the labels that are added it must still go through the bus.
const PAGE: u32 = 500;

impl Service {
    pub(crate) async fn prepare(&self, request: msg::PrepareMountsRequest) -> Result<msg::MountsReply, Status> {
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        snapshotter.check()?;
        idmap::read(&request.labels)?;
        let (namespace, key) = (request.namespace.clone(), request.key.clone());
        let kind = if request.view { Kind::View } else { Kind::Active };
        let prepared = self
            .metadata()
            .prepare_snapshot(PrepareSnapshotRequest {
                namespace: request.namespace,
                snapshotter: request.snapshotter,
                key: request.key,
                parent: request.parent,
                kind: kind.into(),
                labels: request.labels,
                lease: request.lease,
                ..PrepareSnapshotRequest::default()
            })
            .await?;
        let snapshot = convert::required(prepared.snapshot.as_ref(), "snapshot")?.clone();
        pass(Point::SnapshotPrepared);
        match made(&snapshotter, &snapshot, prepared.parent_ids).await {
            Ok(mounts) => Ok(msg::MountsReply { mounts }),
            Err(status) => {
                if let Err(left) = self.drop_snapshot(&namespace, snapshotter.name(), &key, snapshot.id).await {
                    tracing::warn!(status = %left, key, "a snapshot that could not be made keeps its record");
                }
                Err(status)
            }
        }
    }

    pub(crate) async fn mounts(&self, request: msg::GetMountsRequest) -> Result<msg::MountsReply, Status> {
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let (snapshot, parents) = self.existing(&request.namespace, &request.snapshotter, &request.key).await?;
        if snapshot.kind() == Kind::Committed {
            return Err(Status::failed_precondition(format!(
                "snapshot {:?} is committed and has no mounts of its own; prepare or view one on it",
                request.key
            )));
        }
        // Its directory is the unpacking's to make, and to say that it is whole.
        if snapshot.labels.contains_key(labels::UNPACKING) {
            return Err(Status::failed_precondition(format!(
                "a layer is being unpacked into snapshot {:?}; its mounts can be had when it is committed",
                request.key
            )));
        }
        Ok(msg::MountsReply { mounts: made(&snapshotter, &snapshot, parents).await? })
    }

    pub(crate) async fn commit(&self, request: msg::CommitActiveRequest) -> Result<Snapshot, Status> {
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let (namespace, name) = (request.namespace.clone(), request.snapshotter.clone());
        let named = !request.key.is_empty() && !request.name.is_empty();
        let (found, taken) = if named {
            let found = self.stat(&namespace, &name, &request.key).await?.and_then(|found| found.snapshot);
            (found, self.stat(&namespace, &name, &request.name).await?.is_some())
        } else {
            (None, false)
        };
        let mut record = CommitSnapshotRequest {
            namespace: request.namespace,
            snapshotter: request.snapshotter,
            key: request.key,
            name: request.name,
            labels: request.labels,
            usage: None,
            parent: request.parent,
            id: NO_ID,
            lease: request.lease,
        };
        let Some(active) = found.filter(|found| found.kind() == Kind::Active && !taken) else {
            // Metadata knows what is wrong with it, and says so.
            return self.metadata().commit_snapshot(record).await;
        };
        let id = active.id;
        let _lock = Lock::on_dir(&snapshotter.layout().dir(id), PATIENCE).await?;
        let rebased = active.parent.is_empty() && !record.parent.is_empty();
        let onto = if rebased { Some(self.committed_chain(&namespace, &name, &record.parent).await?) } else { None };
        record.id = id;
        let (trees, flush, refusals) = (snapshotter.clone(), self.flush(), self.refusals());
        let usage = blocking(move || {
            let usage = trees.ready(id, onto.as_deref())?;
            if flush {
                refusals.note(trees.layout().flush(id))?;
            }
            Ok(usage)
        });
        record.usage = Some(usage.await?);
        let committed = self.metadata().commit_snapshot(record).await;
        let sure = committed.is_ok();
        // Of an answer that got lost nobody knows what it said.
        let refused =
            matches!(&committed, Err(status) if !matches!(status.code, Code::Unavailable | Code::DeadlineExceeded));
        blocking(move || {
            if sure {
                snapshotter.committed(id)
            } else if refused {
                snapshotter.refused(id)
            } else {
                Ok(())
            }
        })
        .await?;
        committed
    }

    /// Drops the record, and the directory after it; only that of this id, if it is not 0.
    pub(crate) async fn remove(&self, namespace: &str, snapshotter: &str, key: &str, id: u64) -> Result<(), Status> {
        let trees = self.snapshotter(snapshotter)?;
        let (namespace, snapshotter, key) = (namespace.into(), snapshotter.into(), key.into());
        let removed =
            self.metadata().remove_snapshot(RemoveSnapshotRequest { namespace, snapshotter, key, id }).await?;
        pass(Point::SnapshotForgotten);
        self.erase(trees, removed.id).await
    }

    /// Removes a snapshot if it is still the one of this id.
    pub(crate) async fn drop_snapshot(
        &self,
        namespace: &str,
        snapshotter: &str,
        key: &str,
        id: u64,
    ) -> Result<(), Status> {
        // An older metadata service does not compare.
        let found = self.stat(namespace, snapshotter, key).await?.and_then(|found| found.snapshot);
        if found.is_none_or(|found| found.id != id) {
            return Ok(());
        }
        match self.remove(namespace, snapshotter, key, id).await {
            Err(status) if matches!(status.code, Code::NotFound | Code::Aborted) => Ok(()),
            removed => removed,
        }
    }

    pub(crate) async fn usage(&self, request: msg::GetUsageRequest) -> Result<Usage, Status> {
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let (snapshot, _) = self.existing(&request.namespace, &request.snapshotter, &request.key).await?;
        match snapshot.kind() {
            Kind::Active => blocking(move || snapshotter.usage(snapshot.id)).await,
            // A view adds nothing to what it shows.
            _ => Ok(snapshot.usage.unwrap_or_default()),
        }
    }

    pub(crate) async fn stat_one(&self, request: msg::StatTreeRequest) -> Result<Snapshot, Status> {
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let request =
            StatSnapshotRequest { namespace: request.namespace, snapshotter: request.snapshotter, key: request.key };
        let found = self.metadata().stat_snapshot(request).await?;
        let mut snapshot = convert::required(found.snapshot.as_ref(), "snapshot")?.clone();
        snapshotter.label(snapshot.id, &mut snapshot.labels);
        Ok(snapshot)
    }

    pub(crate) async fn list(&self, request: msg::ListTreesRequest) -> Result<msg::ListTreesReply, Status> {
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let limit = if request.limit == 0 { PAGE } else { request.limit.min(PAGE) };
        let request = ListSnapshotsRequest {
            namespace: request.namespace,
            snapshotter: request.snapshotter,
            after: request.after,
            limit,
        };
        let mut page = self.metadata().list_snapshots(request).await?;
        for snapshot in &mut page.snapshots {
            snapshotter.label(snapshot.id, &mut snapshot.labels);
        }
        Ok(msg::ListTreesReply { snapshots: page.snapshots, more: page.more })
    }

    pub(crate) async fn update(&self, request: msg::UpdateTreeRequest) -> Result<Snapshot, Status> {
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        let request = UpdateSnapshotRequest {
            namespace: request.namespace,
            snapshotter: request.snapshotter,
            key: request.key,
            labels: request.labels,
            replace: request.replace,
        };
        let mut snapshot = self.metadata().update_snapshot(request).await?;
        snapshotter.label(snapshot.id, &mut snapshot.labels);
        Ok(snapshot)
    }

    pub(crate) async fn clean(&self, request: msg::CleanUpRequest) -> Result<msg::CleanUpReply, Status> {
        let snapshotter = self.snapshotter(&request.snapshotter)?;
        blocking(move || snapshotter.layout().sweep()).await?;
        Ok(msg::CleanUpReply {})
    }

    pub(crate) fn describe(&self) -> msg::ListSnapshottersReply {
        let described = self.snapshotters().iter().map(|snapshotter| msg::list_snapshotters_reply::Snapshotter {
            name: snapshotter.name().to_owned(),
            root: snapshotter.layout().root().display().to_string(),
            capabilities: snapshotter.capabilities(),
            unusable: snapshotter.check().err().map(|status| status.message).unwrap_or_default(),
        });
        msg::ListSnapshottersReply { snapshotters: described.collect() }
    }
}

/// The mounts of a snapshot, whose directories are made if they are not there.
async fn made(snapshotter: &Snapshotter, snapshot: &Snapshot, parents: Vec<u64>) -> Result<Vec<Mount>, Status> {
    let id = snapshot.id;
    let wanted = Wanted { parents, view: snapshot.kind() == Kind::View, labels: snapshot.labels.clone() };
    let layout = snapshotter.layout();
    // What is there is whole, for it gets its name last.
    let _lock = if layout.dir(id).exists() {
        None
    } else {
        Some(Lock::on_name(&layout.locks(), &format!("make-{id}"), MAKING).await?)
    };
    let trees = snapshotter.clone();
    blocking(move || {
        if !trees.layout().dir(id).exists() {
            trees.make(id, &wanted)?;
        }
        trees.mounts(id, &wanted)
    })
    .await
}
