//! The gc service: collects what nothing refers to, looks for damage, and says what takes the disk. It owns no data; what
//! it deletes, it deletes through the contracts of those who do.
//!
//! - `runs` keeps the runs, one at a time; `report` is what one of them found and did, as callers read it.
//! - `collect` is a collection: records first (`records`), then what was on the disk for them (`blobs`, `directories`),
//!   then ingests past their age (`ingests`).
//! - `watching` shows metadata that this collector is there, so that nobody waits for one that died.
//! - `check` looks for damage in what is kept, and mends it.
//! - `schedule` decides when to collect by itself: its rules are pure.
//! - `why` finds out what a word of the user names; `disk` adds up sizes.
//!
//! What must stay true: nothing is deleted but by a completed mark, and whoever names a thing before it is deleted keeps
//! it. Both are enforced where the data are: by metadata (the sweep, the condemnation) and not by this service, which
//! may die at any point.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod blobs;
mod check;
mod collect;
mod config;
mod directories;
mod disk;
mod ingests;
mod numbers;
mod records;
mod report;
mod runs;
mod schedule;
mod service;
mod watching;
mod why;

use std::sync::Arc;

use berth_bus::{Bus, Serving};
use berth_model::Status;

pub use config::{Config, Knobs};
pub use service::Service;

/// Serves the gc contract on the bus.
pub async fn start(bus: &Bus, config: Config) -> Result<Vec<Serving>, Status> {
    berth_api::gc::serve(bus, Arc::new(Service::new(bus, config))).await
}
