//! Lists of pulls: the records, and of those that run, how far they are now.

use std::{sync::Arc, time::Duration};

use berth_model::Status;
use berth_wire::{
    metadata::{ListPullRecordsRequest, pull_record::State},
    transfer::{ListPullsReply, ListPullsRequest, PullSummary, WatchPullsReply, WatchPullsRequest, pull_state::Phase},
};
use prost::Message as _;

use crate::{book::Book, entry::summary, service::just_ended};

/// Half of what the bus carries.
const MAX_BYTES: usize = 512 * 1024;

/// A page of pulls, by id.
pub(crate) async fn list(book: &Arc<Book>, request: ListPullsRequest) -> Result<ListPullsReply, Status> {
    let page = book
        .records
        .list_pull_records(ListPullRecordsRequest {
            namespace: request.namespace,
            running: !request.all,
            after: request.after,
            limit: request.limit,
        })
        .await?;
    let known = book.pulls();
    let pulls = page.pulls.into_iter().map(|record| match known.get(&record.id) {
        Some(entry) if entry.ended.is_none() => entry.summary(),
        // Nobody works on it: it belongs to a process that is gone, and waits to be taken up.
        _ => {
            let interrupted = record.state() == State::Running;
            summary(record, Phase::Resolving, interrupted, 0)
        }
    });
    Ok(ListPullsReply { pulls: pulls.collect(), more: page.more })
}

/// All that goes on, once something is newer than `seen`.
pub(crate) async fn watch(book: &Arc<Book>, request: &WatchPullsRequest, wait: Duration) -> WatchPullsReply {
    let version = book.news.after(request.seen, wait).await;
    let mut pulls: Vec<PullSummary> = book
        .pulls()
        .values()
        .filter(|entry| request.namespace.is_empty() || entry.wish.namespace == request.namespace)
        .filter(|entry| entry.ended.is_none_or(just_ended))
        .map(crate::entry::Entry::summary)
        .collect();
    // Those that run first, the oldest first.
    pulls.sort_by_key(|pull| {
        let record = pull.record.as_ref();
        let created = record.and_then(|record| record.created_at).map(|time| (time.seconds, time.nanos));
        (record.is_some_and(|record| record.state() != State::Running), created)
    });
    let all = pulls.len();
    let mut bytes = 0;
    pulls.retain(|pull| {
        bytes += pull.encoded_len();
        bytes <= MAX_BYTES
    });
    WatchPullsReply { version, more: pulls.len() < all, pulls }
}
