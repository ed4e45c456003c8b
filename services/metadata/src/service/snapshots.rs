//! Calls about snapshot records.

use berth_model::Status;
use berth_wire::metadata as msg;

use crate::{
    check,
    page::Page,
    snapshots::{self, Commit, Place, Prepare, Prepared},
    store::Store,
    tables::snapshot,
};

pub(super) async fn prepare(
    store: &Store,
    request: msg::PrepareSnapshotRequest,
) -> Result<msg::PrepareSnapshotReply, Status> {
    let wanted = Prepare::parse(request)?;
    match store.change(move |change| snapshots::prepare(change, wanted)).await? {
        Prepared::New(reply) => Ok(reply),
        Prepared::ThereAlready(status) => Err(status),
    }
}

pub(super) async fn commit(store: &Store, request: msg::CommitSnapshotRequest) -> Result<msg::Snapshot, Status> {
    let wanted = Commit::parse(request)?;
    store.change(move |change| snapshots::commit(change, wanted)).await
}

/// The most that one batch prepares or commits.
const MOST: usize = 1000;

pub(super) async fn prepare_all(
    store: &Store,
    request: msg::PrepareSnapshotsRequest,
) -> Result<msg::PrepareSnapshotsReply, Status> {
    if request.snapshots.len() > MOST {
        return Err(Status::invalid_argument(format!("at most {MOST} snapshots are prepared at once")));
    }
    let wanted = request.snapshots.into_iter().map(Prepare::parse).collect::<Result<Vec<_>, _>>()?;
    let prepared = store.change(move |change| {
        wanted.into_iter().map(|one| snapshots::prepare_missing(change, one)).collect::<Result<_, _>>()
    });
    Ok(msg::PrepareSnapshotsReply { snapshots: prepared.await? })
}

pub(super) async fn commit_all(
    store: &Store,
    request: msg::CommitSnapshotsRequest,
) -> Result<msg::CommitSnapshotsReply, Status> {
    if request.commits.len() > MOST {
        return Err(Status::invalid_argument(format!("at most {MOST} snapshots are committed at once")));
    }
    let wanted = request.commits.into_iter().map(Commit::parse).collect::<Result<Vec<_>, _>>()?;
    let committed = store
        .change(move |change| wanted.into_iter().map(|one| snapshots::commit(change, one)).collect::<Result<_, _>>());
    Ok(msg::CommitSnapshotsReply { snapshots: committed.await? })
}

pub(super) async fn remove(store: &Store, request: msg::RemoveSnapshotRequest) -> Result<msg::Snapshot, Status> {
    let place = Place::parse(&request.namespace, &request.snapshotter)?;
    let key = check::name("the snapshot's key", &request.key)?;
    store.change(move |change| snapshots::remove(change, &place, &key, request.id)).await
}

pub(super) async fn stat(store: &Store, request: msg::StatSnapshotRequest) -> Result<msg::StatSnapshotReply, Status> {
    let place = Place::parse(&request.namespace, &request.snapshotter)?;
    let key = check::name("the snapshot's key", &request.key)?;
    store
        .read(move |view| {
            let found = place.find(view, &key)?;
            let parent_ids = snapshots::chain(view, &place, &found.parent)?;
            Ok(msg::StatSnapshotReply { snapshot: Some(found), parent_ids })
        })
        .await
}

pub(super) async fn stat_all(
    store: &Store,
    request: msg::StatSnapshotsRequest,
) -> Result<msg::StatSnapshotsReply, Status> {
    let place = Place::parse(&request.namespace, &request.snapshotter)?;
    let found = store.read(move |view| {
        let each = request.keys.iter().map(|key| snapshot::get(view, &place, key));
        each.filter_map(Result::transpose).collect::<Result<_, _>>()
    });
    Ok(msg::StatSnapshotsReply { snapshots: found.await? })
}

pub(super) async fn list(store: &Store, request: msg::ListSnapshotsRequest) -> Result<msg::ListSnapshotsReply, Status> {
    let place = Place::parse(&request.namespace, &request.snapshotter)?;
    let ((snapshots, more), sequence) = store
        .read_at(move |view| {
            let mut page = Page::new(request.limit);
            snapshot::fill(view, &place, &request.after, &mut page)?;
            Ok(page.finish())
        })
        .await?;
    Ok(msg::ListSnapshotsReply { snapshots, more, sequence })
}

pub(super) async fn update(store: &Store, request: msg::UpdateSnapshotRequest) -> Result<msg::Snapshot, Status> {
    let place = Place::parse(&request.namespace, &request.snapshotter)?;
    let key = check::name("the snapshot's key", &request.key)?;
    check::labels(&request.labels)?;
    let (labels, replace) = (request.labels, request.replace);
    store.change(move |change| snapshots::update(change, &place, &key, &labels, replace)).await
}
