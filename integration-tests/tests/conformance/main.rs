//! containerd's documented contracts of content, images, leases, namespaces, events and containers over gRPC: every method,
//! its codes and its corners, in each home of the services behind the gateway.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that panics has failed, as it should"
)]

mod containers;
mod content;
mod events;
mod faults;
mod home;
mod images;
mod leases;
mod leaving;
mod load;
mod namespaces;
mod serving;
mod sharing;
mod small;
mod writer;
mod writing;

/// Runs each test with the services in one process and over NATS.
macro_rules! in_every_home {
    ($($name:ident)*) => {
        mod local {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::home::Home::start(crate::home::Kind::Local).await).await;
            })*
        }
        mod nats {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::home::Home::start(crate::home::Kind::Nats).await).await;
            })*
        }
    };
}
pub(crate) use in_every_home;
