//! containerd's services, made from the contracts: what its clients (`ctr`, nerdctl, its Go client) know of it.
//!
//! Each service has a file of its own. Codes, headers, labels and the meaning of each method are containerd's.

mod collect;
mod containers;
mod content;
mod convert;
mod diff;
mod events;
mod images;
mod introspection;
mod leases;
mod mounts;
mod namespaces;
mod pages;
mod plugin;
mod scope;
mod snapshots;
mod version;

use berth_model::Status;
use tonic::Response;

pub(crate) use scope::Scope;

use crate::to_grpc;

/// What a unary method answers.
type Grpc<T> = Result<Response<T>, tonic::Status>;

/// The answer of a method whose work is done.
fn answer<T>(done: Result<T, Status>) -> Grpc<T> {
    done.map(Response::new).map_err(to_grpc)
}
