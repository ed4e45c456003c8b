//! Whose turn it is to collect: a round is its collector's for as long as that is there, and another's when it is gone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use berth_api::metadata::Metadata as _;
use berth_kv::Durability;
use berth_metadata::{Config, Service};
use berth_model::{Code, Status};
use berth_wire::metadata as msg;
use futures::poll;

async fn mark(service: &Service, watched: bool) -> Result<String, Status> {
    service.mark(msg::MarkRequest { watched }).await.map(|marked| marked.mark_id)
}

fn watch(mark_id: &str) -> msg::WatchMarkRequest {
    msg::WatchMarkRequest { mark_id: mark_id.to_owned(), wait_ms: 60_000 }
}

async fn refused<T: std::fmt::Debug>(done: impl Future<Output = Result<T, Status>>, code: Code) {
    let status = done.await.unwrap_err();
    assert_eq!(status.code, code, "{status}");
}

#[tokio::test]
async fn a_round_is_over_when_its_collector_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let mut config = Config::new(root.path());
    config.durability = Durability::None;
    // Who is not there has lost its round at once.
    config.round_unwatched = Duration::ZERO;
    let service = berth_metadata::open(config).await.unwrap();

    // Of a collector that never said that it would be there nothing follows from that.
    let silent = mark(&service, false).await.unwrap();
    refused(mark(&service, true), Code::Unavailable).await;
    service.end_mark(msg::EndMarkRequest { mark_id: silent }).await.unwrap();

    let first = mark(&service, true).await.unwrap();
    let mut there = [service.watch_mark(watch(&first)), service.watch_mark(watch(&first))];
    for one in &mut there {
        assert!(poll!(one.as_mut()).is_pending());
    }
    refused(mark(&service, true), Code::Unavailable).await;
    let [poll, next_poll] = there;
    drop(poll);
    refused(mark(&service, true), Code::Unavailable).await;
    drop(next_poll);
    let second = mark(&service, true).await.unwrap();

    // Whatever the first one still asks for is refused, and its end is nobody else's.
    let late = msg::SweepRequest { mark_id: first.clone(), limit: 0 };
    refused(service.sweep(late), Code::FailedPrecondition).await;
    refused(service.watch_mark(watch(&first)), Code::FailedPrecondition).await;
    service.end_mark(msg::EndMarkRequest { mark_id: first }).await.unwrap();
    assert!(service.sweep(msg::SweepRequest { mark_id: second, limit: 0 }).await.unwrap().done);
}
