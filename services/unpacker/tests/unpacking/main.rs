//! Layers unpacked through the contract: a job for each, a commit of all, a real mount of the result.
//!
//! - `hostile`: what tries to leave its directory, or is no archive.
//! - `compression`: every packing, whole and broken.
//! - `algebra`: random stacks of layers against a model in memory.
//! - `claims`: layers whose snapshots were prepared for them.
//! - `remembered`: stacks committed in groups, removed and made anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod algebra;
mod archive;
mod claims;
mod compression;
mod hostile;
mod kit;
mod layer;
mod model;
mod remembered;
