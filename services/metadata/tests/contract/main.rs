//! The contract's suite: every method and every code, against each home of the contract: the service itself, and its
//! client on a bus.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod contents;
mod events;
mod homes;
mod images;
mod leases;
mod namespaces;
mod pulls;
mod snapshots;

/// Runs each test in both homes.
macro_rules! in_both_homes {
    ($($name:ident)*) => {
        mod direct {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::homes::Home::direct().await).await;
            })*
        }
        mod on_the_bus {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::homes::Home::on_the_bus().await).await;
            })*
        }
    };
}
pub(crate) use in_both_homes;
