//! The fetcher: talks to registries. It is told what to fetch and never decides.
//!
//! [`RegistryClient`] resolves references and downloads objects; [`start`] serves the contract and works on fetch jobs.
//!
//! What holds here:
//! - Secrets are in two types that do not show them, in `Authorization` headers to the registry that asked, and nowhere
//!   else: not in errors, logs, jobs, or requests to another host. URLs are shown without user, password and query.
//! - Every wait and every number of tries has a bound, see [`ClientOptions`].
//! - Nothing is believed because a server said it: sizes are held against descriptors, and bytes become a blob only by a
//!   commit that verifies their digest.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod access;
mod asker;
mod auth;
mod body;
mod client;
mod config;
mod dns;
mod endpoint;
mod errand;
mod exchange;
mod failure;
mod fetch;
mod flight;
mod hosts;
mod incoming;
mod numbers;
mod open;
mod options;
mod pieces;
mod range;
mod redirect;
mod refusal;
mod resolve;
mod retry;
mod service;
mod sink;
mod tls;
mod transport;
mod worker;

pub use access::{Access, Credentials};
pub use body::Body;
pub use client::RegistryClient;
pub use config::Config;
pub use fetch::{BlobSink, Fetched};
pub use options::ClientOptions;

use std::sync::Arc;

use berth_api::{content::ContentClient, transfer::TransferClient};
use berth_bus::{Bus, Serving};
use berth_model::Status;

/// Serves the contract and works on fetch jobs until the guards are dropped.
pub async fn start(bus: &Bus, config: Config) -> Result<Vec<Serving>, Status> {
    let client = Arc::new(RegistryClient::new(config.client.clone())?);
    let worker = Arc::new(worker::Worker::new(
        Arc::clone(&client),
        Arc::new(ContentClient::new(bus.clone())),
        Arc::new(TransferClient::new(bus.clone())),
    ));
    let mut serving = berth_api::fetcher::serve(bus, Arc::new(service::Service { client })).await?;
    let working = bus
        .work(config.jobs, move |job, context| {
            let worker = Arc::clone(&worker);
            async move { worker.run(job, context).await }
        })
        .await?;
    serving.push(working);
    Ok(serving)
}
