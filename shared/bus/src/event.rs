//! The event verb: facts in the past tense, with a subject, an identity, headers and a body of any encoding.

use std::fmt;

use berth_model::Status;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};

/// A fact. The body is opaque to the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusEvent {
    /// Below `<prefix>.events.`, for example `default.images.create`.
    pub subject: String,
    /// De-duplicates: of several events with one id, published within two minutes, subscribers see one. Empty means none.
    pub id: String,
    /// Passed on as given; the names are case-sensitive. The id travels as `Nats-Msg-Id` and is not listed here.
    pub headers: Vec<(String, String)>,
    /// JSON by default, so that people can read it; the headers say otherwise.
    pub body: Bytes,
}

/// Events as they come, from the moment of the subscription on.
///
/// Bounded: in-process, a subscriber that falls behind gets an error that says how many events it lost, and goes on from
/// there; over NATS it is the stream that waits for it.
pub struct EventStream {
    events: BoxStream<'static, Result<BusEvent, Status>>,
}

impl EventStream {
    pub(crate) fn new(events: impl futures::Stream<Item = Result<BusEvent, Status>> + Send + 'static) -> Self {
        Self { events: events.boxed() }
    }

    /// The next event; an error is news about the subscription and not its end; `None` when the bus is gone.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<BusEvent, Status>> {
        self.events.next().await
    }
}

impl futures::Stream for EventStream {
    type Item = Result<BusEvent, Status>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.events.poll_next_unpin(cx)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventStream")
    }
}
