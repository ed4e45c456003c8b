//! Berth as people use it: the real program, a real registry, real mounts, and each scenario in every shape the services
//! can run in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, as it should"
)]

/// Plays each scenario once in every shape.
macro_rules! in_every_shape {
    ($($scenario:ident),* $(,)?) => {
        crate::in_shapes! { alone Alone: $($scenario)* }
        crate::in_shapes! { daemon Daemon: $($scenario)* }
        crate::in_shapes! { nats Nats: $($scenario)* }
    };
}

/// Plays scenarios in one shape.
macro_rules! in_shapes {
    ($module:ident $shape:ident: $($scenario:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() -> anyhow::Result<()> {
                    use berth_testing::shape::{Shape, Stage};
                    super::$scenario(Stage::start(Shape::$shape)?).await
                }
            )*
        }
    };
}

use in_shapes;

mod bad_input;
mod benchmark;
mod bit_flips;
mod content;
mod crash;
mod ctr;
mod deployment;
mod differential;
mod events;
mod events_for_subscribers;
mod foreign_receiver;
mod fsck;
mod gc;
mod health;
mod host;
mod images;
mod interrupted_benchmark;
mod leases;
mod memory;
mod native;
mod numbers;
mod observability;
mod over_nats;
mod page;
mod progress;
mod pull;
mod pulls;
mod readme;
mod resume;
mod snapshots;
mod socket;
mod store;
mod systemd_units;
mod top;
mod traces;
mod traces_of_upkeep;
mod under_containerd;
mod verdicts;
