//! The gateway: gRPC for the outside, made from the contracts alone. It keeps no state.
//!
//! Two APIs on one socket: Berth's own (`berth.v1`), which the command line speaks, and containerd's (`containerd`), which its
//! clients speak. Unary methods are calls on the bus; streams are made from long polls (`watcher`, `events`), from a blob's
//! file (`blob`), or are a writer's (`containerd::content`).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod access;
mod blob;
mod containerd;
mod content;
mod events;
mod gc;
mod images;
mod jobs;
mod leases;
mod page;
pub mod pull_shape;
mod pulls;
mod readers;
mod serve;
mod small;
mod snapshots;
mod status;
mod stopping;
mod trace;
mod transfer;
mod version;
mod watch;
mod watcher;

use std::sync::Arc;

use berth_api::{
    content::{Content, ContentClient},
    gc::{Gc, GcClient},
    metadata::{Metadata, MetadataClient},
    transfer::{Transfer, TransferClient},
    unpacker::{Unpacker, UnpackerClient},
};
use berth_bus::Bus;
use berth_model::Status;
use berth_wire::{containerd as api, gateway as grpc};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;

pub use access::Access;
pub use page::page;
pub use serve::{Listener, inherited, listen, serve, serve_in_memory};
pub use status::{from_grpc, to_grpc};
pub use trace::Traced;

/// Clients send frames of up to 8 MiB (containerd's do); twice that is containerd's own limit.
const MESSAGE_BYTES: usize = 16 << 20;

/// What the gateway says of itself.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// The program's version.
    pub version: String,
    /// What it was built from.
    pub revision: String,
    /// The store it serves.
    pub root: String,
    /// What namespaces may have of one another.
    pub sharing: Sharing,
}

/// Whether a namespace gets a blob that another one has without sending its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Whoever knows the digest.
    #[default]
    Shared,
    /// Only from namespaces whose label says so.
    Isolated,
}

/// The services behind the gateway, over the bus.
#[derive(Clone)]
struct Backend {
    content: Arc<dyn Content>,
    metadata: Arc<dyn Metadata>,
    transfer: Arc<dyn Transfer>,
    unpacker: Arc<dyn Unpacker>,
    gc: Arc<dyn Gc>,
    /// For what no service answers: the queues themselves.
    bus: Bus,
    info: ServerInfo,
    /// Bounds how many lists are in memory.
    walks: Arc<Semaphore>,
    /// Told when this gateway ends: streams that have no end of their own then end.
    stopping: CancellationToken,
}

/// What is served, and how its streams are told that it ends.
pub struct Routes {
    routes: tonic::service::Routes,
    stopping: CancellationToken,
}

impl Backend {
    fn new(bus: &Bus, info: ServerInfo) -> Self {
        Self {
            content: Arc::new(ContentClient::new(bus.clone())),
            metadata: Arc::new(MetadataClient::new(bus.clone())),
            transfer: Arc::new(TransferClient::new(bus.clone())),
            unpacker: Arc::new(UnpackerClient::new(bus.clone())),
            gc: Arc::new(GcClient::new(bus.clone())),
            bus: bus.clone(),
            info,
            walks: Arc::new(Semaphore::new(containerd::WALKS)),
            stopping: CancellationToken::new(),
        }
    }
}

/// All services, of both APIs, with health.
#[must_use]
pub fn routes(bus: &Bus, info: ServerInfo) -> Routes {
    let backend = Backend::new(bus, info);
    let mut routes = RoutesBuilder::default();
    macro_rules! add {
        ($($server:path),*) => {
            $(routes.add_service(
                <$server>::new(backend.clone())
                    .max_decoding_message_size(MESSAGE_BYTES)
                    .max_encoding_message_size(MESSAGE_BYTES),
            );)*
        };
    }
    add!(
        grpc::images_server::ImagesServer<Backend>,
        grpc::content_server::ContentServer<Backend>,
        grpc::snapshots_server::SnapshotsServer<Backend>,
        grpc::transfer_server::TransferServer<Backend>,
        grpc::pulls_server::PullsServer<Backend>,
        grpc::leases_server::LeasesServer<Backend>,
        grpc::gc_server::GcServer<Backend>,
        grpc::jobs_server::JobsServer<Backend>,
        grpc::events_server::EventsServer<Backend>,
        grpc::version_server::VersionServer<Backend>,
        api::containers::containers_server::ContainersServer<Backend>,
        api::content::content_server::ContentServer<Backend>,
        api::diff::diff_server::DiffServer<Backend>,
        api::events::events_server::EventsServer<Backend>,
        api::images::images_server::ImagesServer<Backend>,
        api::introspection::introspection_server::IntrospectionServer<Backend>,
        api::leases::leases_server::LeasesServer<Backend>,
        api::mounts::mounts_server::MountsServer<Backend>,
        api::namespaces::namespaces_server::NamespacesServer<Backend>,
        api::snapshots::snapshots_server::SnapshotsServer<Backend>,
        api::version::version_server::VersionServer<Backend>
    );
    // Says that it serves, from the start: it is only there when the services are.
    let (_, health) = tonic_health::server::health_reporter();
    routes.add_service(health);
    Routes { routes: routes.routes(), stopping: backend.stopping }
}

impl Routes {
    /// With reflection, for clients that do not have our contracts. It unpacks the descriptions of all messages, which takes
    /// longer than what most commands ask for: so not for a command in this process, which has them.
    pub fn described(self) -> Result<Self, Status> {
        let damaged = |error| Status::internal(format!("the descriptions of messages are damaged: {error}"));
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(berth_wire::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let routes = self.routes.add_service(reflection().build_v1().map_err(damaged)?);
        Ok(Self { routes: routes.add_service(reflection().build_v1alpha().map_err(damaged)?), ..self })
    }
}

/// Passes a unary method on to a contract.
macro_rules! pass {
    ($backend:ident.$method:ident, $self:ident, $request:ident) => {
        match $self.$backend.$method($request.into_inner()).await {
            Ok(reply) => Ok(tonic::Response::new(reply)),
            Err(status) => Err($crate::to_grpc(status)),
        }
    };
}
pub(crate) use pass;
