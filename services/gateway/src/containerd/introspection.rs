//! `containerd.services.introspection.v1.Introspection`: what Berth is, said as containerd says what it is made of.
//! Clients look here for snapshotters, what they can do, and on which platforms.

use std::{borrow::Cow, os::unix::fs::MetadataExt as _, path::Path};

use berth_model::{
    Platform, Status,
    filter::{Fields, Filters},
};
use berth_wire::{
    containerd::{
        introspection::{self as api, introspection_server::Introspection},
        rpc::Status as RpcStatus,
        types,
    },
    metadata as msg,
    unpacker::ListSnapshottersRequest,
};
use tonic::Request;

use super::{Grpc, answer};
use crate::Backend;

const PID_NAMESPACE: &str = "/proc/self/ns/pid";

const CONTENT: &str = "io.containerd.content.v1";
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1";
const DIFFER: &str = "io.containerd.differ.v1";

/// What is there always, beside the snapshotters: type and id.
const PLUGINS: &[(&str, &str)] = &[
    (CONTENT, "content"),
    (DIFFER, "walking"),
    ("io.containerd.metadata.v1", "bolt"),
    ("io.containerd.event.v1", "exchange"),
    ("io.containerd.gc.v1", "scheduler"),
    ("io.containerd.grpc.v1", "containers"),
    ("io.containerd.grpc.v1", "content"),
    ("io.containerd.grpc.v1", "diff"),
    ("io.containerd.grpc.v1", "events"),
    ("io.containerd.grpc.v1", "healthcheck"),
    ("io.containerd.grpc.v1", "images"),
    ("io.containerd.grpc.v1", "introspection"),
    ("io.containerd.grpc.v1", "leases"),
    ("io.containerd.grpc.v1", "namespaces"),
    ("io.containerd.grpc.v1", "snapshots"),
    ("io.containerd.grpc.v1", "version"),
];

#[tonic::async_trait]
impl Introspection for Backend {
    async fn plugins(&self, request: Request<api::PluginsRequest>) -> Grpc<api::PluginsResponse> {
        let filters = Filters::parse(&request.into_inner().filters);
        let filters = match filters {
            Ok(filters) => filters,
            Err(status) => return answer(Err(status)),
        };
        let mut plugins = plugins(self).await;
        plugins.retain(|plugin| filters.matches(&Record(plugin)));
        answer(Ok(api::PluginsResponse { plugins }))
    }

    async fn server(&self, _request: Request<()>) -> Grpc<api::ServerResponse> {
        answer(server(self).await)
    }

    async fn plugin_info(&self, request: Request<api::PluginInfoRequest>) -> Grpc<api::PluginInfoResponse> {
        let api::PluginInfoRequest { r#type, id, .. } = request.into_inner();
        let found = plugins(self).await.into_iter().find(|plugin| plugin.r#type == r#type && plugin.id == id);
        let found = found.ok_or_else(|| Status::not_found(format!("plugin {type}.{id} not found", type = r#type)));
        answer(found.map(|plugin| api::PluginInfoResponse { plugin: Some(plugin), extra: None }))
    }
}

async fn plugins(backend: &Backend) -> Vec<api::Plugin> {
    let mut plugins: Vec<_> = PLUGINS.iter().map(|(r#type, id)| plugin(r#type, id)).collect();
    for one in &mut plugins {
        match one.r#type.as_str() {
            CONTENT => exports(one, Path::new(&backend.info.root).join("content").display()),
            DIFFER => one.platforms = vec![host()],
            _ => {}
        }
    }
    plugins.extend(snapshotters(backend).await);
    plugins
}

/// The snapshotters, as the unpacker knows them; where there is none, the one that everybody asks for, and why it is not
/// there.
async fn snapshotters(backend: &Backend) -> Vec<api::Plugin> {
    let known = match backend.unpacker.list_snapshotters(ListSnapshottersRequest {}).await {
        Ok(known) => known.snapshotters,
        Err(status) => {
            let unusable = api::Plugin { init_err: Some(rpc(status)), ..plugin(SNAPSHOTTER, "overlayfs") };
            return vec![unusable];
        }
    };
    let described = known.into_iter().map(|known| {
        let unusable = (!known.unusable.is_empty()).then(|| rpc(Status::failed_precondition(known.unusable)));
        let mut one = api::Plugin {
            platforms: vec![host()],
            capabilities: known.capabilities,
            init_err: unusable,
            ..plugin(SNAPSHOTTER, &known.name)
        };
        exports(&mut one, known.root);
        one
    });
    described.collect()
}

fn plugin(r#type: &str, id: &str) -> api::Plugin {
    api::Plugin { r#type: r#type.to_owned(), id: id.to_owned(), ..api::Plugin::default() }
}

fn exports(plugin: &mut api::Plugin, root: impl ToString) {
    plugin.exports.insert("root".to_owned(), root.to_string());
}

fn rpc(status: Status) -> RpcStatus {
    RpcStatus { code: status.code.number(), message: status.message, details: Vec::new() }
}

fn host() -> types::Platform {
    let host = Platform::host();
    types::Platform { os: host.os, architecture: host.architecture, variant: host.variant, os_version: String::new() }
}

async fn server(backend: &Backend) -> Result<api::ServerResponse, Status> {
    // The store's own id: it is random, and stays as long as the store does.
    let probe = msg::ReadEventsRequest { after: u64::MAX, limit: 1, wait_ms: 0 };
    let id = backend.metadata.read_events(probe).await?.outbox_id;
    let uuid = uuid::Uuid::parse_str(&id)
        .map_err(|error| Status::internal(format!("the store's id {id:?} is no uuid: {error}")))?;
    let namespace =
        std::fs::metadata(PID_NAMESPACE).map_err(|error| Status::io("look at", Path::new(PID_NAMESPACE), &error))?;
    Ok(api::ServerResponse {
        uuid: uuid.hyphenated().to_string(),
        pid: std::process::id().into(),
        pidns: namespace.ino(),
        deprecations: Vec::new(),
    })
}

struct Record<'a>(&'a api::Plugin);

impl Fields for Record<'_> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["type"] => Some(self.0.r#type.as_str().into()),
            ["id"] => Some(self.0.id.as_str().into()),
            ["capabilities"] => Some(self.0.capabilities.join(",").into()),
            _ => None,
        }
    }
}
