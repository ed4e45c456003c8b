//! `berth.v1.Events/Watch`: what there is, then what happens, as one stream without a gap.

use std::sync::Arc;

use berth_api::metadata::Metadata;
use berth_wire::{
    gateway::{Listed, WatchReply, WatchRequest},
    metadata::{ReadEventsRequest, ReadStateRequest},
};
use futures::Stream;
use tonic::Status;

use crate::{Backend, readers::Place, to_grpc};

const PAGE: u32 = 500;
const WAIT_MS: u32 = 10_000;

/// The stream of one watcher.
pub(crate) fn stream(
    backend: &Backend,
    request: WatchRequest,
) -> impl Stream<Item = Result<WatchReply, Status>> + Send + use<> {
    let watcher = Watcher {
        metadata: Arc::clone(&backend.metadata),
        namespace: request.namespace,
        next: Next::Page { state: 0, page: 0 },
        place: None,
    };
    futures::stream::try_unfold(watcher, |mut watcher| async move { Ok(Some((watcher.next().await?, watcher))) })
}

struct Watcher {
    metadata: Arc<dyn Metadata>,
    namespace: String,
    next: Next,
    place: Option<Place>,
}

/// What the watcher gets next.
enum Next {
    Page { state: u64, page: u32 },
    Listed(Listed),
    Events { after: u64 },
}

impl Watcher {
    async fn next(&mut self) -> Result<WatchReply, Status> {
        loop {
            match &self.next {
                &Next::Page { state, page } => {
                    let namespace = self.namespace.clone();
                    let asked = self.metadata.read_state(ReadStateRequest { namespace, state, page });
                    let read = asked.await.map_err(to_grpc)?;
                    self.next = if read.more {
                        Next::Page { state: read.state, page: page + 1 }
                    } else {
                        Next::Listed(Listed { sequence: read.sequence, outbox_id: read.outbox_id })
                    };
                    if !read.items.is_empty() {
                        return Ok(WatchReply { items: read.items, ..WatchReply::default() });
                    }
                }
                Next::Listed(listed) => {
                    let listed = listed.clone();
                    self.next = Next::Events { after: listed.sequence };
                    return Ok(WatchReply { listed: Some(listed), ..WatchReply::default() });
                }
                &Next::Events { after } => {
                    let poll = ReadEventsRequest { after, limit: PAGE, wait_ms: WAIT_MS };
                    // What was answered before was taken.
                    self.place.get_or_insert_with(|| Place::new("watch", after)).at(after);
                    let mut events = self.metadata.read_events(poll).await.map_err(to_grpc)?.events;
                    if let Some(last) = events.last() {
                        self.next = Next::Events { after: last.sequence };
                    }
                    events.retain(|event| self.namespace.is_empty() || event.namespace == self.namespace);
                    if !events.is_empty() {
                        return Ok(WatchReply { events, ..WatchReply::default() });
                    }
                }
            }
        }
    }
}
