//! The transfer service: decides what a pull needs, in which order, and says how far it is. It moves no bytes itself.
//!
//! - [`plan`] is pure: documents in, what to fetch and which labels to set out.
//! - [`stack`] is pure: which unpacked layers may be committed now.
//! - [`scheduler`] is pure: whose job is next, so that no pull starves another. `slots` waits by it, `work` says how much.
//! - `pull` drives one pull over the contracts, `image` one image of it, `layer` the jobs of one blob; `board` holds what watchers see.
//! - `ahead` asks the registry before the pull is recorded.
//! - `life` is a pull's life by its record, which `journal` writes; `book` knows them all and finds the interrupted ones.
//! - `service` is the contract: equal ones are one, and the last watcher that leaves cancels. `lead` decides who serves it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod ahead;
mod board;
mod book;
mod entry;
mod find;
mod image;
mod journal;
mod landing;
mod layer;
mod lead;
mod ledger;
mod life;
mod listing;
pub mod plan;
mod prepared;
mod pull;
mod records;
pub mod scheduler;
mod service;
mod slots;
pub mod stack;
mod verdict;
mod wish;
mod work;

use std::{sync::Arc, time::Duration};

use berth_bus::{Bus, Serving};
use berth_model::Status;

pub use service::Service;
pub use work::InFlight;

/// Settings of the service.
#[derive(Clone, Debug)]
pub struct Config {
    /// A pull that nobody has watched for so long is cancelled: its callers died without saying so.
    pub abandoned_after: Duration,
    /// How long the state of an ended pull can still be asked for.
    pub remember: Duration,
    /// How long a pull's lease lasts if nobody ends it (containerd's default is a day).
    pub lease: Duration,
    /// Whether interrupted pulls go on by themselves: the detached ones, and those whose callers come back. Otherwise they
    /// wait for somebody who asks for them by name.
    pub take_up: bool,
    /// How many jobs are in flight at once.
    pub in_flight: InFlight,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            abandoned_after: Duration::from_secs(30),
            remember: Duration::from_secs(300),
            lease: Duration::from_secs(24 * 3600),
            take_up: true,
            in_flight: InFlight::default(),
        }
    }
}

/// Serves the transfer contract on the bus. One that takes pulls up does so before anybody asks, as soon as metadata answers.
pub async fn start(bus: &Bus, config: Config) -> Result<Vec<Serving>, Status> {
    if config.take_up {
        let (led, config) = (bus.clone(), config);
        return Ok(vec![Serving::of_work(move |stop| lead::run(led, config, stop))]);
    }
    berth_api::transfer::serve(bus, Arc::new(Service::new(bus.clone(), config))).await
}
