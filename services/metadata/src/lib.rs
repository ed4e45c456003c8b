//! The metadata service: everything that has a name. Namespaces, images, content records and their labels, leases and
//! what they name, snapshot records, the records of pulls, and the outbox of events.
//!
//! - Every change is one atomic batch, and the event that reports it is in that batch: no event without its change, no
//!   change without its event, through any crash.
//! - Changes are made one after another, by one writer. What a rule reads is still so when it writes.
//! - An answer means that the change is on disk, and so does an event that was read.
//! - Nothing here touches a blob or a directory.
//!
//! The rules (`images`, `contents`, `leases`, `snapshots`, `condemnation`) are plain functions over a `change`; the
//! calls around them are in `service`, the tables below them in `tables`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod activity;
mod change;
mod check;
mod collection;
mod condemnation;
mod config;
mod containers;
mod contents;
mod event;
mod fences;
mod images;
mod leases;
mod mask;
mod missing;
mod namespaces;
mod page;
mod pulls;
mod relay;
mod resource;
mod service;
mod snapshots;
mod store;
mod tables;

use std::sync::Arc;

use berth_model::Status;

pub use config::{Config, EventEncoding};
#[doc(hidden)]
pub use fences::{Fence, Fences};
pub use service::Service;

/// Opens the service for callers in this process.
pub async fn open(config: Config) -> Result<Arc<Service>, Status> {
    Service::open(config).await
}

/// Opens the service and serves it on the bus until the guards are dropped. On a bus that leaves this process it also
/// publishes the events.
pub async fn start(bus: &berth_bus::Bus, config: Config) -> Result<Vec<berth_bus::Serving>, Status> {
    let service = open(config).await?;
    if bus.is_remote() {
        service.relay_to(bus.clone()).await?;
    }
    let mut serving = berth_api::pull_records::serve(bus, Arc::<Service>::clone(&service)).await?;
    serving.extend(berth_api::metadata::serve(bus, service).await?);
    Ok(serving)
}
