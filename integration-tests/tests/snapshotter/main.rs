//! What a snapshotter must do, for each snapshotter there is, in every home of its contract: called in this process, over
//! NATS, and as containerd's clients call it. Written from the documented contract of containerd's snapshots. Mounts need
//! root; without it the suite does nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, as it should"
)]

/// Plays each test for each snapshotter in each home.
macro_rules! suite {
    ($($test:ident),* $(,)?) => {
        crate::plays! { overlayfs_in_process, InProcess "overlayfs": $($test)* }
        crate::plays! { overlayfs_over_nats, OverNats "overlayfs": $($test)* }
        crate::plays! { overlayfs_over_grpc, OverGrpc "overlayfs": $($test)* }
        crate::plays! { native_in_process, InProcess "native": $($test)* }
        crate::plays! { native_over_grpc, OverGrpc "native": $($test)* }
    };
}

/// Plays tests for one snapshotter in one home.
macro_rules! plays {
    ($module:ident, $kind:ident $snapshotter:literal: $($test:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    use crate::home::{Home, Kind};
                    if let Some(home) = Home::open(Kind::$kind, $snapshotter).await {
                        super::$test(&home).await;
                    }
                }
            )*
        }
    };
}

use plays;

mod diffs;
mod home;
mod labels;
mod lifecycle;
mod over_grpc;
mod refusals;
mod removal;
mod trees;
