//! `containerd.services.diff.v1.Diff`: layers onto mounts, and mounts into layers.

use berth_model::Status;
use berth_wire::{
    containerd::{
        diff::{self as api, diff_server::Diff},
        types,
    },
    types::Mount,
    unpacker as msg,
};
use tonic::Request;

use super::{
    Grpc, Scope, answer,
    convert::{descriptor, from_descriptor, signed, time},
};
use crate::Backend;

/// What is applied, when the compression is undone.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[tonic::async_trait]
impl Diff for Backend {
    async fn apply(&self, request: Request<api::ApplyRequest>) -> Grpc<api::ApplyResponse> {
        answer(apply(self, request).await)
    }

    async fn diff(&self, request: Request<api::DiffRequest>) -> Grpc<api::DiffResponse> {
        answer(diff(self, request).await)
    }
}

async fn apply(backend: &Backend, request: Request<api::ApplyRequest>) -> Result<api::ApplyResponse, Status> {
    let namespace = Scope::of(&request)?.namespace;
    let request = request.into_inner();
    let layer = from_descriptor(request.diff)?.ok_or_else(|| Status::invalid_argument("the diff is missing"))?;
    let apply = msg::ApplyLayerRequest {
        namespace,
        layer: Some(layer),
        mounts: from_mounts(request.mounts)?,
        sync: request.sync_fs,
    };
    let applied = backend.unpacker.apply_layer(apply).await?;
    let applied = types::Descriptor {
        media_type: LAYER.to_owned(),
        digest: applied.diff_id,
        size: signed(applied.size),
        ..types::Descriptor::default()
    };
    Ok(api::ApplyResponse { applied: Some(applied) })
}

async fn diff(backend: &Backend, request: Request<api::DiffRequest>) -> Result<api::DiffResponse, Status> {
    let scope = Scope::of(&request)?;
    scope.check_lease(backend).await?;
    let request = request.into_inner();
    // Ingests of a namespace are its own; an empty ref stays empty, for one that nobody else has.
    let reference = match request.r#ref.as_str() {
        "" => String::new(),
        given => format!("{}/{given}", scope.namespace),
    };
    let diff = msg::DiffMountsRequest {
        namespace: scope.namespace,
        lower: from_mounts(request.left)?,
        upper: from_mounts(request.right)?,
        media_type: request.media_type,
        r#ref: reference,
        labels: request.labels,
        source_date_epoch: time(request.source_date_epoch)?,
        lease: scope.lease.unwrap_or_default(),
    };
    let written = backend.unpacker.diff_mounts(diff).await?;
    Ok(api::DiffResponse { diff: descriptor(Some(written)) })
}

fn from_mounts(mounts: Vec<types::Mount>) -> Result<Vec<Mount>, Status> {
    let convert = |mount: types::Mount| {
        if !mount.target.is_empty() {
            return Err(Status::unimplemented(format!(
                "a mount below the root of another one (target {:?}) is not supported",
                mount.target
            )));
        }
        Ok(Mount { r#type: mount.r#type, source: mount.source, options: mount.options })
    };
    mounts.into_iter().map(convert).collect()
}
