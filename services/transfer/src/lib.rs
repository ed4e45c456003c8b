//! The transfer service: decides what a pull needs, in which order, and says how far it is. It moves no bytes itself.
//!
//! - [`plan`] is pure: documents in, what to fetch and which labels to set out.
//! - [`stack`] is pure: which unpacked layers may be committed now.
//! - `pull` drives one pull over the contracts, `image` one image of it, `layer` the jobs of one blob; `board` holds what watchers see.
//! - `service` keeps the running pulls: equal ones are one, and the last watcher that leaves cancels.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod board;
mod image;
mod layer;
pub mod plan;
mod pull;
mod records;
mod service;
pub mod stack;

use std::{sync::Arc, time::Duration};

use berth_bus::{Bus, Serving};
use berth_model::Status;

pub use service::Service;

/// Settings of the service.
#[derive(Clone, Debug)]
pub struct Config {
    /// A pull that nobody has watched for so long is cancelled: its callers died without saying so.
    pub abandoned_after: Duration,
    /// How long the state of an ended pull can still be asked for.
    pub remember: Duration,
    /// How long a pull's lease lasts if nobody ends it (containerd's default is a day).
    pub lease: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            abandoned_after: Duration::from_secs(30),
            remember: Duration::from_secs(300),
            lease: Duration::from_secs(24 * 3600),
        }
    }
}

/// Serves the transfer contract on the bus.
pub async fn start(bus: &Bus, config: Config) -> Result<Vec<Serving>, Status> {
    berth_api::transfer::serve(bus, Arc::new(Service::new(bus.clone(), config))).await
}
