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
        types,
    },
    metadata as msg,
};
use tonic::Request;

use super::{Grpc, answer};
use crate::Backend;

const PID_NAMESPACE: &str = "/proc/self/ns/pid";

/// Type, id, whether it is of the host's platform, and what it can do.
const PLUGINS: &[(&str, &str, bool, &[&str])] = &[
    ("io.containerd.content.v1", "content", false, &[]),
    ("io.containerd.snapshotter.v1", "overlayfs", true, &["rebase", "remap-ids"]),
    ("io.containerd.snapshotter.v1", "native", true, &[]),
    ("io.containerd.differ.v1", "walking", true, &[]),
    ("io.containerd.metadata.v1", "bolt", false, &[]),
    ("io.containerd.event.v1", "exchange", false, &[]),
    ("io.containerd.gc.v1", "scheduler", false, &[]),
    ("io.containerd.grpc.v1", "containers", false, &[]),
    ("io.containerd.grpc.v1", "content", false, &[]),
    ("io.containerd.grpc.v1", "diff", false, &[]),
    ("io.containerd.grpc.v1", "events", false, &[]),
    ("io.containerd.grpc.v1", "healthcheck", false, &[]),
    ("io.containerd.grpc.v1", "images", false, &[]),
    ("io.containerd.grpc.v1", "introspection", false, &[]),
    ("io.containerd.grpc.v1", "leases", false, &[]),
    ("io.containerd.grpc.v1", "namespaces", false, &[]),
    ("io.containerd.grpc.v1", "snapshots", false, &[]),
    ("io.containerd.grpc.v1", "version", false, &[]),
];

#[tonic::async_trait]
impl Introspection for Backend {
    async fn plugins(&self, request: Request<api::PluginsRequest>) -> Grpc<api::PluginsResponse> {
        let filters = Filters::parse(&request.into_inner().filters);
        answer(filters.map(|filters| {
            let plugins = plugins(self).into_iter().filter(|plugin| filters.matches(&Record(plugin)));
            api::PluginsResponse { plugins: plugins.collect() }
        }))
    }

    async fn server(&self, _request: Request<()>) -> Grpc<api::ServerResponse> {
        answer(server(self).await)
    }

    async fn plugin_info(&self, request: Request<api::PluginInfoRequest>) -> Grpc<api::PluginInfoResponse> {
        let api::PluginInfoRequest { r#type, id, .. } = request.into_inner();
        let found = plugins(self).into_iter().find(|plugin| plugin.r#type == r#type && plugin.id == id);
        let found = found.ok_or_else(|| Status::not_found(format!("plugin {type}.{id} not found", type = r#type)));
        answer(found.map(|plugin| api::PluginInfoResponse { plugin: Some(plugin), extra: None }))
    }
}

fn plugins(backend: &Backend) -> Vec<api::Plugin> {
    let host = Platform::host();
    let host = types::Platform {
        os: host.os,
        architecture: host.architecture,
        variant: host.variant,
        os_version: String::new(),
    };
    let root = Path::new(&backend.info.root);
    let exports = |r#type: &str, id: &str| match r#type {
        "io.containerd.content.v1" => Some(root.join("content")),
        "io.containerd.snapshotter.v1" => Some(root.join("snapshots").join(id)),
        _ => None,
    };
    let plugin = |(r#type, id, on_host, capabilities): &(&str, &str, bool, &[&str])| api::Plugin {
        r#type: (*r#type).to_owned(),
        id: (*id).to_owned(),
        platforms: if *on_host { vec![host.clone()] } else { Vec::new() },
        exports: exports(r#type, id).into_iter().map(|dir| ("root".to_owned(), dir.display().to_string())).collect(),
        capabilities: capabilities.iter().map(|can| (*can).to_owned()).collect(),
        ..api::Plugin::default()
    };
    PLUGINS.iter().map(plugin).collect()
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
