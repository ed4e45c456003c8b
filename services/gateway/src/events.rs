//! `berth.v1.Events`: the outbox as a stream, made from long polls.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use berth_api::metadata::Metadata;
use berth_wire::{
    gateway::{FollowRequest, WatchReply, WatchRequest, events_server::Events},
    metadata::{Event, ReadEventsRequest},
};
use futures::Stream;
use tonic::{Request, Response, Status};

use crate::{Backend, readers::Place, stopping::until_stopping, to_grpc, watch};

const PAGE: u32 = 500;
const WAIT_MS: u32 = 10_000;

#[tonic::async_trait]
impl Events for Backend {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchReply, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let watched = watch::stream(self, request.into_inner());
        Ok(Response::new(Box::pin(until_stopping(self, watched))))
    }

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let request = request.into_inner();
        let start = if request.only_new || request.until_now || !request.outbox_id.is_empty() {
            // Far beyond what there is: only the newest sequence is wanted.
            let after = if request.only_new || !request.outbox_id.is_empty() { u64::MAX } else { request.after };
            let probe = ReadEventsRequest { after, limit: 1, wait_ms: 0 };
            let newest = self.metadata.read_events(probe).await.map_err(to_grpc)?;
            if !request.outbox_id.is_empty() && request.outbox_id != newest.outbox_id {
                return Err(Status::failed_precondition(format!(
                    "sequence {} is of outbox {}, and this is {}; begin anew (Watch)",
                    request.after, request.outbox_id, newest.outbox_id
                )));
            }
            Some(newest.last)
        } else {
            None
        };
        let follower = Follower {
            metadata: Arc::clone(&self.metadata),
            after: if request.only_new { start.unwrap_or(0) } else { request.after },
            until: start.filter(|_| request.until_now),
            namespace: request.namespace,
            ready: VecDeque::new(),
            place: None,
        };
        let events = futures::stream::try_unfold(follower, |mut follower| async move {
            Ok(follower.next().await?.map(|event| (event, follower)))
        });
        Ok(Response::new(Box::pin(until_stopping(self, events))))
    }
}

struct Follower {
    metadata: Arc<dyn Metadata>,
    after: u64,
    /// The last sequence wanted; none: go on for ever.
    until: Option<u64>,
    namespace: String,
    ready: VecDeque<Event>,
    /// Where it is, once it has begun.
    place: Option<Place>,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<Event>, Status> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                self.place.get_or_insert_with(|| Place::new("follow", event.sequence)).at(event.sequence);
                if self.until.is_some_and(|until| event.sequence > until) {
                    return Ok(None);
                }
                if self.namespace.is_empty() || self.namespace == event.namespace {
                    return Ok(Some(event));
                }
            }
            if self.until.is_some_and(|until| self.after >= until) {
                return Ok(None);
            }
            let poll = ReadEventsRequest { after: self.after, limit: PAGE, wait_ms: WAIT_MS };
            let page = self.metadata.read_events(poll).await.map_err(to_grpc)?;
            self.after = page.events.last().map_or(self.after, |event| event.sequence);
            self.ready = page.events.into();
        }
    }
}
