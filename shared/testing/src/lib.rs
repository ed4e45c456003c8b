//! The test kit: real servers on free ports, the real program on a root of its own, trees that can be compared, and
//! waiting without sleeping.

#![expect(clippy::panic, clippy::print_stderr, reason = "a kit for tests reports by panicking and printing")]

pub mod berth;
pub mod docker_registry;
#[expect(clippy::indexing_slicing, reason = "what is missing in a JSON value is null")]
pub mod event_contract;
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a kit for tests: it panics where it is misused")]
pub mod hostile;
#[expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a kit for tests: it panics where it is misused"
)]
pub mod image;
pub mod link;
pub mod nats_cluster;
pub mod nats_listener;
pub mod nats_server;
pub mod otlp;
pub mod port;
pub mod process;
pub mod push;
pub mod running;
pub mod shape;
pub mod tiny_disk;
pub mod tree;
pub mod wait;
