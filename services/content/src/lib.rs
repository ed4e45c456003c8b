//! The content service: blob files and the ingestions that become them.
//!
//! - `store` is the disk: paths, flushes and renames, and their order. What it publishes was verified and is durable.
//! - `ingest` is one ingest: who may write, how far it is written, whether it is what was promised. Its rules are pure.
//! - `hasher` follows the writer on a thread of its own, so that hashing overlaps the download and the frontier is honest;
//!   what is small is hashed when it is whole.
//! - `open` joins these for one ingest; `state` holds them all; `service` implements the contract, by way of `writing`,
//!   `commit`, `watch`, `blobs` and `page`.
//! - `inspection` looks for damage and mends what can be mended here; `measure` says what the store takes of its disk.
//! - `reconcile` makes the table of blobs agree with the files at a start, unless `agreement` tells that it does.
//!
//! What must stay true:
//!
//! - A file gets a blob's name by one rename, after its bytes were verified and flushed. So what has a blob's name is whole,
//!   whenever the power goes.
//! - A blob is told of (`StatBlob`, `WatchBlob`, `AlreadyExists`) only when its name and its record are on disk too.
//! - Hashed bytes never change: a writer that lost its place and may still have the file open keeps the old file, and the
//!   next one gets a copy.
//! - A change that was begun is carried out also when its caller goes away.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod agreement;
mod blobs;
mod commit;
mod config;
mod hasher;
mod ingest;
mod inspection;
mod listing;
mod measure;
mod open;
mod page;
mod reconcile;
#[cfg(test)]
mod recovery;
mod service;
mod state;
mod store;
mod tables;
mod watch;
mod writing;

use berth_bus::{Bus, Serving};
use berth_model::Status;

pub use config::Config;
pub use service::Service;

/// Opens the store and serves it on the bus.
pub async fn start(bus: &Bus, config: Config) -> Result<Vec<Serving>, Status> {
    let service = Service::open(config).await?;
    berth_api::content::serve(bus, service as std::sync::Arc<dyn berth_api::content::Content>).await
}
