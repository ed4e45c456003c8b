//! What the scenarios are made of: odd layers, images on their way to registries, independent opinions on what layers
//! mean, and the facts that the real program reports.
//!
//! The scenarios themselves are in `tests/all`; one program, so that it is linked once.

#![allow(clippy::print_stderr, reason = "tests report by printing")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod access;
pub mod chance;
pub mod crash;
pub mod ctr;
pub mod facts;
pub mod gnu_tar;
pub mod image;
pub mod layer;
pub mod odd;
pub mod power;
pub mod umoci;
