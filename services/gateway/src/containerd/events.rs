//! `containerd.services.events.v1.Events`: the outbox as containerd's envelopes.

mod envelope;

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use berth_api::metadata::Metadata;
use berth_model::{Status, filter::Filters};
use berth_wire::{
    containerd::{
        events::{self as api, events_server::Events},
        types::Envelope,
    },
    metadata as msg,
};
use futures::Stream;
use tonic::Request;

use super::{
    Grpc, Scope, answer,
    convert::{payload, time},
};
use crate::{Backend, readers::Place, stopping::until_stopping, to_grpc};

const PAGE: u32 = 500;
const WAIT_MS: u32 = 10_000;

#[tonic::async_trait]
impl Events for Backend {
    async fn publish(&self, request: Request<api::PublishRequest>) -> Grpc<()> {
        answer(publish(self, request).await)
    }

    async fn forward(&self, request: Request<api::ForwardRequest>) -> Grpc<()> {
        answer(forward(self, request.into_inner()).await)
    }

    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<Envelope, tonic::Status>> + Send>>;

    async fn subscribe(&self, request: Request<api::SubscribeRequest>) -> Grpc<Self::SubscribeStream> {
        answer(subscribe(self, request.into_inner()).await)
    }
}

async fn publish(backend: &Backend, request: Request<api::PublishRequest>) -> Result<(), Status> {
    let namespace = Scope::of(&request)?.namespace;
    let api::PublishRequest { topic, event } = request.into_inner();
    let publish = msg::PublishEventRequest { namespace, topic, payload: payload(event), at: None };
    backend.metadata.publish_event(publish).await.map(|_| ())
}

async fn forward(backend: &Backend, request: api::ForwardRequest) -> Result<(), Status> {
    let envelope = request.envelope.ok_or_else(|| Status::invalid_argument("envelope is missing in the request"))?;
    let Envelope { timestamp, namespace, topic, event } = envelope;
    let at = time(timestamp)?;
    if at.is_none() {
        return Err(Status::invalid_argument("the envelope must have a timestamp"));
    }
    let publish = msg::PublishEventRequest { namespace, topic, payload: payload(event), at };
    backend.metadata.publish_event(publish).await.map(|_| ())
}

/// What happens from now on, in all namespaces.
async fn subscribe(
    backend: &Backend,
    request: api::SubscribeRequest,
) -> Result<Pin<Box<dyn Stream<Item = Result<Envelope, tonic::Status>> + Send>>, Status> {
    let filters = Filters::parse(&request.filters)?;
    // Far beyond what there is: only the newest sequence is wanted.
    let newest = msg::ReadEventsRequest { after: u64::MAX, limit: 1, wait_ms: 0 };
    let after = backend.metadata.read_events(newest).await?.last;
    let follower = Follower {
        metadata: Arc::clone(&backend.metadata),
        after,
        filters,
        ready: VecDeque::new(),
        place: Place::new("containerd", after),
    };
    let envelopes = futures::stream::try_unfold(follower, |mut follower| async move {
        follower.next().await.map(|event| Some((event, follower))).map_err(to_grpc)
    });
    Ok(Box::pin(until_stopping(backend, envelopes)))
}

/// A subscriber's place in the outbox. There is no queue: one that is slow reads later, and one that is so slow that events
/// were dropped before it read them hears of it (OUT_OF_RANGE).
struct Follower {
    metadata: Arc<dyn Metadata>,
    after: u64,
    filters: Filters,
    ready: VecDeque<Envelope>,
    place: Place,
}

impl Follower {
    async fn next(&mut self) -> Result<Envelope, Status> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            // All of the last page was taken.
            self.place.at(self.after);
            let poll = msg::ReadEventsRequest { after: self.after, limit: PAGE, wait_ms: WAIT_MS };
            let page = self.metadata.read_events(poll).await?;
            self.after = page.events.last().map_or(self.after, |event| event.sequence);
            for event in page.events {
                // Of pulls containerd's clients know nothing.
                if event.payload.is_none() && event.topic.starts_with("/pulls/") {
                    continue;
                }
                let event = envelope::Event::read(event)?;
                if self.filters.matches(&event) {
                    self.ready.push_back(event.envelope);
                }
            }
        }
    }
}
