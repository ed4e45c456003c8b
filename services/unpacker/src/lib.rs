//! The unpacker: snapshot directories, and layers applied to them.
//!
//! - [`pipeline`] runs the stages of one layer side by side: read and inflate ([`decompress`]), hash, untar;
//!   `small` those of a small one after the other.
//! - [`apply`](apply::apply) puts the entries of an archive into a directory of the layer's own, in overlayfs form. [`name`] and
//!   [`sparse`] are its pure parts; [`tree`] is how it reaches a place without ever leaving the directory; [`facts`] what it
//!   puts on a file.
//! - [`writers`] are the threads that make a layer's regular files (`file`), in any order; `made` knows when order matters.
//! - [`shares`] divides the processors between the layers under way.
//! - [`rebase`](rebase::rebase) settles, when the layers below are known ([`merged`]), what a layer left open ([`residue`]).
//!   Of small layers the names are read at once (`index`), and remembered for a while (`memory`).
//! - [`snapshotter`] is what the ways to keep snapshots have in common: [`overlay`] and [`native`]; [`layout`] lays out their
//!   directories, [`usage`] counts what is in them, [`copy`] and [`merge`] make whole trees.
//! - [`diff`] writes a layer from two trees, [`onto`] applies one to mounts; [`view`] looks at what mounts show.
//! - `orphans` removes directories that no record names.
//! - `verify` unpacks a layer once more and compares ([`compare`]).
//! - `worker` does `unpack` jobs, `service` the calls.
//!
//! A layer writes nowhere but below its own directory, whatever its names, links and devices say.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod apply;
mod applying;
pub mod archive;
mod batch;
mod bypass;
mod claim;
mod committing;
pub mod compare;
mod config;
pub mod copy;
pub mod decompress;
pub mod diff;
mod diffing;
mod early_flush;
mod entry;
mod error;
pub mod facts;
mod file;
mod gzip;
mod helped;
pub mod hidden;
pub mod idmap;
#[cfg(feature = "igzip")]
mod igzip;
mod index;
pub mod inflate;
mod lane;
mod layer_files;
pub mod layout;
pub mod lock;
mod lower;
mod made;
mod memory;
pub mod merge;
pub mod merged;
pub mod name;
pub mod native;
pub mod onto;
mod orphans;
pub mod overlay;
pub mod pieces;
pub mod pipeline;
mod pour;
pub mod rebase;
pub mod refusals;
pub mod residue;
mod service;
pub mod shares;
mod small;
mod snapshots;
pub mod snapshotter;
pub mod sparse;
pub mod tree;
pub mod unpacked;
pub mod usage;
mod verify;
pub mod view;
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
    service.sweep();
    let mut serving =
        berth_api::unpacker::serve(bus, Arc::clone(&service) as Arc<dyn berth_api::unpacker::Unpacker>).await?;
    serving.push(worker::work(bus, service, config.jobs).await?);
    Ok(serving)
}
