//! Snapshot records.

mod commit;
mod prepare;
mod remove;

use berth_model::Status;
use berth_wire::metadata as msg;
use msg::snapshot::Kind;

use crate::homes::{Home, NS};

fn prepare(key: &str, parent: &str) -> msg::PrepareSnapshotRequest {
    msg::PrepareSnapshotRequest {
        namespace: NS.into(),
        snapshotter: "overlay".into(),
        key: key.into(),
        parent: parent.into(),
        kind: Kind::Active.into(),
        ..Default::default()
    }
}

fn view(key: &str, parent: &str) -> msg::PrepareSnapshotRequest {
    msg::PrepareSnapshotRequest { kind: Kind::View.into(), ..prepare(key, parent) }
}

fn commit(key: &str, name: &str) -> msg::CommitSnapshotRequest {
    msg::CommitSnapshotRequest {
        namespace: NS.into(),
        snapshotter: "overlay".into(),
        key: key.into(),
        name: name.into(),
        ..Default::default()
    }
}

fn remove(key: &str) -> msg::RemoveSnapshotRequest {
    msg::RemoveSnapshotRequest { namespace: NS.into(), snapshotter: "overlay".into(), key: key.into(), id: 0 }
}

fn stat(key: &str) -> msg::StatSnapshotRequest {
    msg::StatSnapshotRequest { namespace: NS.into(), snapshotter: "overlay".into(), key: key.into() }
}

fn update(key: &str, labels: berth_model::labels::Labels) -> msg::UpdateSnapshotRequest {
    msg::UpdateSnapshotRequest {
        namespace: NS.into(),
        snapshotter: "overlay".into(),
        key: key.into(),
        labels,
        ..Default::default()
    }
}

async fn list(home: &Home) -> Result<Vec<msg::Snapshot>, Status> {
    let request =
        msg::ListSnapshotsRequest { namespace: NS.into(), snapshotter: "overlay".into(), ..Default::default() };
    Ok(home.metadata.list_snapshots(request).await?.snapshots)
}

/// A committed snapshot on a parent; its id.
async fn layer(home: &Home, name: &str, parent: &str) -> u64 {
    let key = format!("extract-{name}");
    home.metadata.prepare_snapshot(prepare(&key, parent)).await.unwrap();
    home.metadata.commit_snapshot(commit(&key, name)).await.unwrap().id
}
