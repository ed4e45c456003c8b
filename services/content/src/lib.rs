//! The content service: blob files and the ingestions that become them.
//!
//! - [`store`] is the disk: paths, flushes and renames, and their order. What it publishes was verified and is durable.
//! - `flight` is one ingest while somebody writes it: who may write, how far it is written and hashed. Its rules are pure.
//! - `hasher` follows the writer on a thread of its own, so that hashing overlaps the download and the frontier is honest.
//! - `open` joins the two; `service` implements the contract over them.
//!
//! The file under a blob's name is the truth that it exists: it comes there by an atomic rename, after its bytes were
//! verified and flushed, and its directory is flushed before anybody is told. The table of blobs in RocksDB is an index
//! beside it (order, times, sizes without a walk), made to agree at every start.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod flight;
mod hasher;
mod open;
mod service;
pub mod store;
mod tables;

use std::{path::PathBuf, sync::Arc, time::Duration};

use berth_bus::{Bus, Serving};
use berth_model::Status;

pub use service::Service;

/// Settings of the service.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of the store; made if need be.
    pub root: PathBuf,
    /// Whether a commit waits for the disk.
    pub durability: berth_kv::Durability,
    /// What this process is, for the one that finds the store held.
    pub holder: String,
    /// A writer that was silent for so long may be replaced.
    pub writer_silence: Duration,
}

impl Config {
    /// The usual settings for a store at `root`.
    #[must_use]
    pub fn new(root: PathBuf, holder: &str) -> Self {
        Self {
            root,
            durability: berth_kv::Durability::Synced,
            holder: holder.to_owned(),
            writer_silence: Duration::from_secs(30),
        }
    }
}

/// Opens the store and serves it on the bus.
pub async fn start(bus: &Bus, config: Config) -> Result<Vec<Serving>, Status> {
    let service = Service::open(config).await?;
    berth_api::content::serve(bus, service as Arc<dyn berth_api::content::Content>).await
}
