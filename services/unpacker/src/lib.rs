//! The unpacker: snapshot directories, and layers applied to them.
//!
//! - [`pipeline`] runs the stages of one layer side by side: read and inflate ([`decompress`]), hash, untar.
//! - [`apply`](apply::apply) puts the entries of an archive into a directory of the layer's own, in overlayfs form. [`name`] and
//!   [`sparse`] are its pure parts; [`tree`] is how it reaches a place without ever leaving the directory; [`facts`] what it
//!   puts on a file.
//! - [`writers`] are the threads that make a layer's regular files (`file`), in any order; `made` knows when order matters.
//! - [`rebase`](rebase::rebase) settles, when the layers below are known ([`merged`]), what a layer left open ([`residue`]).
//! - [`overlay`] lays out the directories and says how to mount them.
//! - `worker` does `unpack` jobs, `service` the calls.
//!
//! A layer writes nowhere but below its own directory, whatever its names, links and devices say.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod apply;
mod archive;
mod config;
mod data;
pub mod decompress;
mod early_flush;
mod entry;
mod error;
pub mod facts;
mod file;
pub mod lock;
mod made;
pub mod merged;
pub mod name;
pub mod overlay;
pub mod pieces;
pub mod pipeline;
pub mod rebase;
pub mod residue;
mod service;
pub mod sparse;
pub mod tree;
pub mod unpacked;
mod worker;
pub mod writers;

use std::sync::Arc;

use berth_bus::{Bus, Serving};
use berth_model::Status;

pub use config::Config;
pub use error::ApplyError;
pub use service::Service;

/// Serves the unpacker's contract on the bus, and works on its jobs.
pub async fn start(bus: &Bus, config: Config) -> Result<Vec<Serving>, Status> {
    let service = Arc::new(Service::new(bus, &config));
    let mut serving =
        berth_api::unpacker::serve(bus, Arc::clone(&service) as Arc<dyn berth_api::unpacker::Unpacker>).await?;
    serving.push(worker::work(bus, service, config.jobs).await?);
    Ok(serving)
}
