//! The relay: publishes the outbox on NATS, in order and without gaps, for as long as it takes.
//!
//! It reads from a cursor that it moves behind what was acknowledged. An event is stored on NATS before the next one is
//! sent: sending several at a time would be faster, and a failure in the middle would change their order. The cursor is
//! written for some events together and without waiting for the disk: what it did not count when everything stopped is
//! published again with the same id, and the server drops what it saw within its window (two minutes). So a subscriber
//! sees each event at least once, and knows one it saw already by its id.

mod envelope;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use berth_bus::Bus;
use berth_model::{Code, Status};
use berth_telemetry::{context, lag, metrics::meter, wait};
use berth_wire::metadata as msg;
use opentelemetry::metrics::Gauge;
use tracing::Instrument as _;

use crate::{config::EventEncoding, store::Store};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The cursor is moved after so many events, and when there are no more.
const TOGETHER: usize = 16;
/// How often readers are counted.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// How long one question for events stays open; then it is asked again.
const ASK: Duration = Duration::from_secs(60);

static LAG: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    meter()
        .u64_gauge("berth.events.relay.lag")
        .with_unit("{event}")
        .with_description("Events that are on disk and not yet published")
        .build()
});

/// Relays until it is dropped.
pub(crate) async fn run(store: Arc<Store>, bus: Bus, encoding: EventEncoding) {
    let mut pause = FIRST_PAUSE;
    loop {
        match pass(&store, &bus, encoding).await {
            Ok(()) => pause = FIRST_PAUSE,
            Err(status) => {
                tracing::error!(%status, "the outbox cannot be read; its events wait");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Counts, now and then, how far behind the readers of what was published are.
pub(crate) async fn count_readers(bus: Bus) {
    loop {
        match bus.event_lags().await {
            Ok(lags) => lag::readers("nats", lags),
            Err(status) => tracing::debug!(%status, "how far readers of events are behind is not known"),
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

/// Publishes the next events, or waits for some.
async fn pass(store: &Store, bus: &Bus, encoding: EventEncoding) -> Result<(), Status> {
    let after = store.relayed();
    match store.events_after(after, 0, ASK).await {
        Ok(page) => {
            LAG.record(page.last.saturating_sub(after), &[]);
            if !page.events.is_empty() {
                // A trace of its own, tied to those in which the events came to be.
                let span =
                    tracing::info_span!(parent: None, "relay", events = page.events.len(), after, last = page.last);
                context::link_all(&span, page.events.iter().map(|event| event.traceparent.as_str()));
                publish_all(store, bus, &page, encoding).instrument(span).await?;
            }
            LAG.record(page.last.saturating_sub(store.relayed()), &[]);
            Ok(())
        }
        Err(status) if status.code == Code::OutOfRange => {
            let first = store.first_event().await?;
            tracing::warn!(from = after + 1, to = first - 1, "events were dropped before they were relayed");
            store.set_relayed(first - 1).await
        }
        Err(status) => Err(status),
    }
}

async fn publish_all(
    store: &Store,
    bus: &Bus,
    page: &msg::ReadEventsReply,
    encoding: EventEncoding,
) -> Result<(), Status> {
    for some in page.events.chunks(TOGETHER) {
        for event in some {
            publish(bus, &page.outbox_id, event, encoding).await;
            LAG.record(page.last.saturating_sub(event.sequence), &[]);
        }
        if let Some(last) = some.last() {
            store.set_relayed(last.sequence).await?;
        }
    }
    Ok(())
}

/// Publishes one event, however often it must be tried.
async fn publish(bus: &Bus, outbox_id: &str, event: &msg::Event, encoding: EventEncoding) {
    let sequence = event.sequence;
    let mut published = envelope::of(outbox_id, event, encoding);
    let mut pause = FIRST_PAUSE;
    let mut tries = 0_u64;
    while let Err(status) = bus.publish(published.clone()).await {
        tries += 1;
        if status.code == Code::InvalidArgument {
            tracing::error!(sequence, %status, "an event does not fit the bus; it is published without its facts");
            published = envelope::without_facts(outbox_id, event, encoding);
        } else if tries == 1 {
            tracing::warn!(sequence, %status, "an event cannot be published; it waits, and those behind it");
        } else {
            tracing::debug!(sequence, tries, %status, "still cannot be published");
        }
        wait::on("publishing again", tokio::time::sleep(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    if tries > 0 {
        tracing::info!(sequence, tries, "events are published again");
    }
}

#[cfg(test)]
mod contract;
