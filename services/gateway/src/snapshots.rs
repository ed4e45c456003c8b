//! `berth.v1.Snapshots`.

use berth_wire::{
    gateway::snapshots_server::Snapshots,
    metadata::{ListSnapshotsReply, ListSnapshotsRequest, Snapshot, StatSnapshotReply, StatSnapshotRequest},
    types::Usage,
    unpacker as msg,
};
use tonic::{Request, Response, Status};

use crate::{Backend, pass};

#[tonic::async_trait]
impl Snapshots for Backend {
    async fn stat(&self, request: Request<StatSnapshotRequest>) -> Result<Response<StatSnapshotReply>, Status> {
        pass!(metadata.stat_snapshot, self, request)
    }

    async fn list(&self, request: Request<ListSnapshotsRequest>) -> Result<Response<ListSnapshotsReply>, Status> {
        pass!(metadata.list_snapshots, self, request)
    }

    async fn prepare(&self, request: Request<msg::PrepareMountsRequest>) -> Result<Response<msg::MountsReply>, Status> {
        pass!(unpacker.prepare_mounts, self, request)
    }

    async fn mounts(&self, request: Request<msg::GetMountsRequest>) -> Result<Response<msg::MountsReply>, Status> {
        pass!(unpacker.get_mounts, self, request)
    }

    async fn commit(&self, request: Request<msg::CommitActiveRequest>) -> Result<Response<Snapshot>, Status> {
        pass!(unpacker.commit_active, self, request)
    }

    async fn remove(&self, request: Request<msg::RemoveTreeRequest>) -> Result<Response<msg::RemoveTreeReply>, Status> {
        pass!(unpacker.remove_tree, self, request)
    }

    async fn usage(&self, request: Request<msg::GetUsageRequest>) -> Result<Response<Usage>, Status> {
        pass!(unpacker.get_usage, self, request)
    }
}
