//! Events over JetStream: stored with de-duplication, read by each subscriber at its own pace.
//!
//! A subscriber reads the stream from where it stood when it subscribed, by sequence. Core NATS subscriptions would be
//! simpler, but they drop messages when the subscriber is slow or the connection breaks, and repeat those that the
//! stream recognised as duplicates. Consumers are short-lived and cost no disk; when one is lost, the next begins at the
//! sequence after the last event seen.

use std::sync::Arc;
use std::time::Duration;

use async_nats::datetime::DateTime;
use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use berth_model::{Code, Status};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::sync::watch;

use super::streams::Kind;
use super::{Nats, from_nats};
use crate::backoff::Backoff;
use crate::event::{BusEvent, EventStream};

/// Events fetched at a time.
const BATCH: usize = 128;
/// How long one request for events stays with the server.
const ASK: Duration = Duration::from_secs(15);
/// The server forgets the consumer of a subscriber that was gone this long.
const FORGET: Duration = Duration::from_secs(60);
/// Events handed over and not yet read.
const UNREAD: usize = 64;
/// Consumers that are looked at.
const CONSUMERS: usize = 1000;

impl Nats {
    pub(crate) async fn publish(&self, event: BusEvent, limit: Duration) -> Result<(), Status> {
        let subject = self.names.event(&event.subject);
        self.store(Kind::Events, &subject, &event.id, &event.headers, event.body, limit).await.map(drop)
    }

    /// How many events each durable consumer has not had, or not acknowledged. Those of subscribers that are forgotten when
    /// they leave have names of chance; they are one.
    pub(crate) async fn event_lags(&self) -> Result<Vec<(String, u64)>, Status> {
        let stream = self.ensure(Kind::Events).await?;
        let mut listed = stream.consumers().take(CONSUMERS);
        let mut lags = Vec::new();
        while let Some(info) = self.link.permitted(listed.next()).await? {
            let info = info.map_err(|error| {
                Status::unavailable(format!("the consumers of events at {} cannot be listed: {error}", self.link.url))
            })?;
            let name = info.config.durable_name.unwrap_or_else(|| "not durable".to_owned());
            lags.push((name, info.num_pending + info.num_ack_pending as u64));
        }
        Ok(lags)
    }

    pub(crate) async fn subscribe(self: &Arc<Self>, filter: &str) -> Result<EventStream, Status> {
        let stream = self.ensure(Kind::Events).await?;
        let (next, made) = (stream.cached_info().state.last_sequence + 1, stream.cached_info().created);
        let (sender, receiver) = mpsc::channel(UNREAD);
        let breaks = self.link.breaks();
        let reader = Reader {
            nats: Arc::clone(self),
            filter: self.names.event(filter),
            next,
            made,
            sender: sender.clone(),
            breaks,
        };
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                () = reader.run() => {}
            }
        });
        Ok(EventStream::new(futures::stream::unfold(receiver, |mut events| async move {
            let event = events.recv().await?;
            Some((event, events))
        })))
    }
}

/// Reads the stream for one subscriber.
struct Reader {
    nats: Arc<Nats>,
    filter: String,
    /// The first sequence not seen.
    next: u64,
    /// When the stream was made, which tells it from another of the same name.
    made: DateTime,
    sender: mpsc::Sender<Result<BusEvent, Status>>,
    breaks: watch::Receiver<u64>,
}

impl Reader {
    /// Ends with the subscription.
    async fn run(mut self) {
        let mut backoff = Backoff::quick();
        loop {
            self.breaks.mark_unchanged();
            match self.consumer().await {
                Ok(consumer) => {
                    if !self.read(&consumer).await {
                        return;
                    }
                }
                Err(status) if status.code == Code::Unavailable => {
                    tracing::debug!(filter = self.filter, %status, "cannot read events; trying again");
                }
                // What does not pass by itself the subscriber has to know; it decides whether to go on.
                Err(status) => {
                    if self.sender.send(Err(status)).await.is_err() {
                        return;
                    }
                }
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn consumer(&mut self) -> Result<Consumer<pull::Config>, Status> {
        let stream = self.nats.ensure(Kind::Events).await?;
        let (last, made) = (stream.cached_info().state.last_sequence, stream.cached_info().created);
        if made != self.made || last + 1 < self.next {
            tracing::warn!(filter = self.filter, "the event stream was made anew; reading it from its beginning");
            (self.next, self.made) = (1, made);
        }
        let config = pull::Config {
            name: Some(format!("subscriber_{}", uuid::Uuid::new_v4().simple())),
            filter_subject: self.filter.clone(),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.next },
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGET,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        self.nats
            .link
            .permitted(stream.create_consumer(config))
            .await?
            .map_err(|error| Status::unavailable(error.to_string()))
    }

    /// Passes events on until something is wrong with the consumer; `false` when nobody listens any more.
    async fn read(&mut self, consumer: &Consumer<pull::Config>) -> bool {
        let mut delivered = 0;
        loop {
            let mut batch = match consumer.batch().max_messages(BATCH).expires(ASK).messages().await {
                Ok(batch) => batch,
                Err(_gone) => return true,
            };
            loop {
                let message = tokio::select! {
                    biased;
                    _broken = self.breaks.changed() => return true,
                    message = batch.next() => message,
                };
                let message = match message {
                    Some(Ok(message)) => message,
                    Some(Err(_gone)) => return true,
                    None => break,
                };
                let Ok((sequence, number)) = message.info().map(|info| (info.stream_sequence, info.consumer_sequence))
                else {
                    return true;
                };
                if number != delivered + 1 {
                    // Some were lost on the way: read them again.
                    return true;
                }
                delivered = number;
                self.next = sequence + 1;
                if let Some(event) = self.event(&message)
                    && self.sender.send(Ok(event)).await.is_err()
                {
                    return false;
                }
            }
        }
    }

    fn event(&self, message: &jetstream::Message) -> Option<BusEvent> {
        let subject = self.nats.names.below_events(&message.subject)?.to_owned();
        let mut headers = from_nats(message.headers.as_ref());
        let is_id = |(name, _): &(String, String)| name.eq_ignore_ascii_case("nats-msg-id");
        let id = headers.iter().find(|pair| is_id(pair)).map(|(_, id)| id.clone()).unwrap_or_default();
        headers.retain(|pair| !is_id(pair));
        Some(BusEvent { subject, id, headers, body: message.payload.clone() })
    }
}
