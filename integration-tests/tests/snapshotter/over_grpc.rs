//! The contract as containerd's clients call it: snapshots.v1 and diff.v1 of a gateway in memory.

use std::{io, sync::Mutex};

use berth_api::unpacker::Unpacker;
use berth_bus::Bus;
use berth_model::Status;
use berth_wire::{
    containerd::{
        diff as diff_api, diff::diff_client::DiffClient, snapshots as api,
        snapshots::snapshots_client::SnapshotsClient, types,
    },
    metadata::{Snapshot, snapshot::Kind},
    types::{Descriptor, Mount, Time, Usage},
    unpacker as msg,
};
use hyper_util::rt::TokioIo;
use prost_types::{FieldMask, Timestamp};
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

pub(crate) struct OverGrpc {
    snapshots: SnapshotsClient<Channel>,
    diff: DiffClient<Channel>,
}

impl OverGrpc {
    pub(crate) async fn serve(bus: &Bus) -> Self {
        let info = berth_gateway::ServerInfo {
            version: "0".into(),
            revision: "suite".into(),
            root: String::new(),
            sharing: berth_gateway::Sharing::Shared,
        };
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        tokio::spawn(berth_gateway::serve_in_memory(theirs, berth_gateway::routes(bus, info)));
        let ours = Mutex::new(Some(ours));
        let connect = tower::service_fn(move |_| {
            let taken = ours.lock().unwrap().take().ok_or_else(|| io::Error::other("connected already"));
            async move { taken.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://memory.invalid");
        let channel = endpoint.connect_with_connector(connect).await.unwrap();
        Self { snapshots: SnapshotsClient::new(channel.clone()), diff: DiffClient::new(channel) }
    }

    fn snapshots(&self) -> SnapshotsClient<Channel> {
        self.snapshots.clone()
    }
}

fn in_namespace<T>(message: T, namespace: &str, lease: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", namespace.parse().unwrap());
    if !lease.is_empty() {
        request.metadata_mut().insert("containerd-lease", lease.parse().unwrap());
    }
    request
}

fn refused(status: tonic::Status) -> Status {
    berth_gateway::from_grpc(&status)
}

fn mounts(mounts: Vec<types::Mount>) -> msg::MountsReply {
    let convert = |mount: types::Mount| Mount { r#type: mount.r#type, source: mount.source, options: mount.options };
    msg::MountsReply { mounts: mounts.into_iter().map(convert).collect() }
}

fn to_mounts(mounts: Vec<Mount>) -> Vec<types::Mount> {
    let convert = |mount: Mount| types::Mount {
        r#type: mount.r#type,
        source: mount.source,
        options: mount.options,
        ..Default::default()
    };
    mounts.into_iter().map(convert).collect()
}

fn time(stamp: Option<Timestamp>) -> Option<Time> {
    stamp.map(|stamp| Time { seconds: stamp.seconds, nanos: stamp.nanos.unsigned_abs() })
}

fn snapshot(info: Option<api::Info>) -> Snapshot {
    let info = info.unwrap();
    let kind = match info.kind() {
        api::Kind::Unknown => Kind::Unknown,
        api::Kind::View => Kind::View,
        api::Kind::Active => Kind::Active,
        api::Kind::Committed => Kind::Committed,
    };
    Snapshot {
        name: info.name,
        parent: info.parent,
        kind: kind.into(),
        created_at: time(info.created_at),
        updated_at: time(info.updated_at),
        labels: info.labels,
        ..Default::default()
    }
}

fn not_in_grpc<T>() -> Result<T, Status> {
    Err(Status::unimplemented("containerd has no words for it"))
}

#[async_trait::async_trait]
impl Unpacker for OverGrpc {
    async fn prepare_mounts(&self, request: msg::PrepareMountsRequest) -> Result<msg::MountsReply, Status> {
        let msg::PrepareMountsRequest { namespace, snapshotter, key, parent, view, labels, lease } = request;
        if view {
            let request = api::ViewSnapshotRequest { snapshotter, key, parent, labels };
            let reply = self.snapshots().view(in_namespace(request, &namespace, &lease)).await.map_err(refused)?;
            return Ok(mounts(reply.into_inner().mounts));
        }
        let request = api::PrepareSnapshotRequest { snapshotter, key, parent, labels };
        let reply = self.snapshots().prepare(in_namespace(request, &namespace, &lease)).await.map_err(refused)?;
        Ok(mounts(reply.into_inner().mounts))
    }

    async fn get_mounts(&self, request: msg::GetMountsRequest) -> Result<msg::MountsReply, Status> {
        let msg::GetMountsRequest { namespace, snapshotter, key } = request;
        let request = in_namespace(api::MountsRequest { snapshotter, key }, &namespace, "");
        Ok(mounts(self.snapshots().mounts(request).await.map_err(refused)?.into_inner().mounts))
    }

    async fn commit_active(&self, request: msg::CommitActiveRequest) -> Result<Snapshot, Status> {
        let msg::CommitActiveRequest { namespace, snapshotter, key, name, labels, parent, lease } = request;
        let stat =
            msg::StatTreeRequest { namespace: namespace.clone(), snapshotter: snapshotter.clone(), key: name.clone() };
        let request = api::CommitSnapshotRequest { snapshotter, name, key, labels, parent };
        self.snapshots().commit(in_namespace(request, &namespace, &lease)).await.map_err(refused)?;
        self.stat_tree(stat).await
    }

    async fn remove_tree(&self, request: msg::RemoveTreeRequest) -> Result<msg::RemoveTreeReply, Status> {
        let msg::RemoveTreeRequest { namespace, snapshotter, key } = request;
        let request = in_namespace(api::RemoveSnapshotRequest { snapshotter, key }, &namespace, "");
        self.snapshots().remove(request).await.map_err(refused)?;
        Ok(msg::RemoveTreeReply {})
    }

    async fn get_usage(&self, request: msg::GetUsageRequest) -> Result<Usage, Status> {
        let msg::GetUsageRequest { namespace, snapshotter, key } = request;
        let request = in_namespace(api::UsageRequest { snapshotter, key }, &namespace, "");
        let usage = self.snapshots().usage(request).await.map_err(refused)?.into_inner();
        Ok(Usage { inodes: usage.inodes.unsigned_abs(), size: usage.size.unsigned_abs() })
    }

    async fn stat_tree(&self, request: msg::StatTreeRequest) -> Result<Snapshot, Status> {
        let msg::StatTreeRequest { namespace, snapshotter, key } = request;
        let request = in_namespace(api::StatSnapshotRequest { snapshotter, key }, &namespace, "");
        Ok(snapshot(self.snapshots().stat(request).await.map_err(refused)?.into_inner().info))
    }

    async fn list_trees(&self, request: msg::ListTreesRequest) -> Result<msg::ListTreesReply, Status> {
        let request = in_namespace(
            api::ListSnapshotsRequest { snapshotter: request.snapshotter, ..Default::default() },
            &request.namespace,
            "",
        );
        let mut stream = self.snapshots().list(request).await.map_err(refused)?.into_inner();
        let mut snapshots = Vec::new();
        while let Some(message) = stream.message().await.map_err(refused)? {
            snapshots.extend(message.info.into_iter().map(|info| snapshot(Some(info))));
        }
        Ok(msg::ListTreesReply { snapshots, more: false })
    }

    async fn update_tree(&self, request: msg::UpdateTreeRequest) -> Result<Snapshot, Status> {
        let msg::UpdateTreeRequest { namespace, snapshotter, key, labels, replace } = request;
        let paths = if replace {
            vec!["labels".to_owned()]
        } else {
            labels.keys().map(|key| format!("labels.{key}")).collect()
        };
        let info = api::Info { name: key, labels, ..Default::default() };
        let request =
            api::UpdateSnapshotRequest { snapshotter, info: Some(info), update_mask: Some(FieldMask { paths }) };
        let reply = self.snapshots().update(in_namespace(request, &namespace, "")).await.map_err(refused)?;
        Ok(snapshot(reply.into_inner().info))
    }

    async fn clean_up(&self, request: msg::CleanUpRequest) -> Result<msg::CleanUpReply, Status> {
        let request = in_namespace(api::CleanupRequest { snapshotter: request.snapshotter }, "suite", "");
        self.snapshots().cleanup(request).await.map_err(refused)?;
        Ok(msg::CleanUpReply {})
    }

    async fn diff_mounts(&self, request: msg::DiffMountsRequest) -> Result<Descriptor, Status> {
        let diff = diff_api::DiffRequest {
            left: to_mounts(request.lower),
            right: to_mounts(request.upper),
            media_type: request.media_type,
            r#ref: request.r#ref,
            labels: request.labels,
            source_date_epoch: request.source_date_epoch.map(|time| Timestamp { seconds: time.seconds, nanos: 0 }),
        };
        let diff = in_namespace(diff, &request.namespace, &request.lease);
        let written = self.diff.clone().diff(diff).await.map_err(refused)?.into_inner().diff.unwrap();
        Ok(Descriptor {
            media_type: written.media_type,
            digest: written.digest,
            size: written.size.unsigned_abs(),
            ..Default::default()
        })
    }

    async fn apply_layer(&self, request: msg::ApplyLayerRequest) -> Result<msg::ApplyLayerReply, Status> {
        let layer = request.layer.unwrap();
        let layer = types::Descriptor {
            media_type: layer.media_type,
            digest: layer.digest,
            size: i64::try_from(layer.size).unwrap(),
            ..Default::default()
        };
        let apply = diff_api::ApplyRequest {
            diff: Some(layer),
            mounts: to_mounts(request.mounts),
            sync_fs: request.sync,
            ..Default::default()
        };
        let applied = self.diff.clone().apply(in_namespace(apply, &request.namespace, "")).await.map_err(refused)?;
        let applied = applied.into_inner().applied.unwrap();
        assert_eq!(applied.media_type, "application/vnd.oci.image.layer.v1.tar");
        Ok(msg::ApplyLayerReply { diff_id: applied.digest, size: applied.size.unsigned_abs() })
    }

    async fn commit_layers(&self, _: msg::CommitLayersRequest) -> Result<msg::CommitLayersReply, Status> {
        not_in_grpc()
    }

    async fn check_host(&self, _: msg::CheckHostRequest) -> Result<msg::CheckHostReply, Status> {
        not_in_grpc()
    }

    async fn list_snapshotters(&self, _: msg::ListSnapshottersRequest) -> Result<msg::ListSnapshottersReply, Status> {
        not_in_grpc()
    }

    async fn remove_orphans(&self, _: msg::RemoveOrphansRequest) -> Result<msg::RemoveOrphansReply, Status> {
        not_in_grpc()
    }

    async fn verify_snapshot(&self, _: msg::VerifySnapshotRequest) -> Result<msg::VerifySnapshotReply, Status> {
        not_in_grpc()
    }

    async fn measure_snapshots(&self, _: msg::MeasureSnapshotsRequest) -> Result<msg::MeasureSnapshotsReply, Status> {
        not_in_grpc()
    }
}
