//! Events in-process: one bounded broadcast, filtered by each subscriber.
//!
//! Nothing is stored here: in all-in-one mode the outbox is the replayable log.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use berth_model::Status;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Local, lock};
use crate::event::{BusEvent, EventStream};
use crate::subject;

/// How far a subscriber may fall behind, in events.
const BEHIND: usize = 4096;
/// How many ids are remembered to tell repeated events.
const REMEMBERED: usize = 8192;

/// The broadcast, and the ids of late.
#[derive(Debug)]
pub(super) struct Events {
    sender: broadcast::Sender<BusEvent>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    /// Whether `id` is new; remembers it.
    fn is_new(&mut self, id: &str) -> bool {
        if id.is_empty() {
            return true;
        }
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

impl Events {
    pub(super) fn new() -> Self {
        Self { sender: broadcast::Sender::new(BEHIND), seen: Mutex::default() }
    }
}

impl Local {
    pub(crate) fn publish(&self, event: BusEvent) {
        // The lock is held while sending, so that all subscribers see one order.
        let mut seen = lock(&self.events.seen);
        if seen.is_new(&event.id) && self.events.sender.send(event).is_err() {
            tracing::trace!("nobody subscribes to events");
        }
    }

    pub(crate) fn subscribe(&self, filter: &str) -> EventStream {
        let start = (self.events.sender.subscribe(), filter.to_owned());
        EventStream::new(futures::stream::unfold(start, |(mut events, filter)| async move {
            loop {
                let item = match events.recv().await {
                    Ok(event) if !subject::matches(&filter, &event.subject) => continue,
                    Ok(event) => Ok(event),
                    Err(RecvError::Lagged(lost)) => Err(Status::data_loss(format!(
                        "the subscriber of {filter} fell behind and lost up to {lost} events"
                    ))),
                    Err(RecvError::Closed) => return None,
                };
                return Some((item, (events, filter)));
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn event(subject: &str, id: usize) -> BusEvent {
        BusEvent { subject: subject.to_owned(), id: id.to_string(), headers: Vec::new(), body: bytes::Bytes::new() }
    }

    #[tokio::test]
    async fn a_subscriber_that_falls_behind_is_told_and_goes_on() {
        let local = Local::new(Duration::ZERO);
        let mut events = local.subscribe("a");
        for id in 0..BEHIND + 10 {
            local.publish(event("a", id));
        }
        let lost = events.next().await.unwrap().unwrap_err();
        assert!(lost.message.contains("lost up to 10 events"), "{lost}");
        assert_eq!(events.next().await.unwrap().unwrap().id, "10");
    }

    #[test]
    fn ids_are_forgotten_in_order() {
        let mut seen = Seen::default();
        assert!((0..=REMEMBERED).all(|id| seen.is_new(&id.to_string())));
        assert!(seen.is_new("0"));
        assert!(!seen.is_new(&REMEMBERED.to_string()));
        assert!(seen.is_new("") && seen.is_new(""));
    }
}
