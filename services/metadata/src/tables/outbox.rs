//! `outbox`: sequence → the event.

use berth_kv::{Reader, Table, Txn};
use berth_model::Status;
use berth_wire::metadata::Event;

use super::pages;
use crate::page::Page;

const OUTBOX: Table<u64, Event> = Table::new("outbox");

pub(crate) fn put(txn: &mut Txn<'_>, event: &Event) {
    OUTBOX.put(txn, &event.sequence, event);
}

pub(crate) fn delete(txn: &mut Txn<'_>, sequence: u64) {
    OUTBOX.delete(txn, &sequence);
}

/// The events after a sequence, in order.
pub(crate) fn fill(from: &impl Reader, after: u64, page: &mut Page<Event>) -> Result<(), Status> {
    pages::fill(&OUTBOX, from, &(), Some(after), page, |_, _, event| Ok(event))
}

#[cfg(test)]
mod tests {
    use berth_kv::Key;
    use berth_wire::{metadata::Payload, types::Time};
    use prost::Message;

    use super::*;

    #[test]
    fn the_stored_form_stays() {
        assert_eq!(258_u64.to_bytes(), [0, 0, 0, 0, 0, 0, 1, 2]);
        let event = Event {
            sequence: 258,
            namespace: "n".into(),
            topic: "/t".into(),
            at: Some(Time { seconds: 1, nanos: 2 }),
            json: "{}".into(),
            payload: None,
            traceparent: String::new(),
        };
        assert_eq!(event.encode_to_vec(), b"\x08\x82\x02\x12\x01n\x1a\x02/t\x22\x04\x08\x01\x10\x02\x2a\x02{}");
        let payload = Some(Payload { type_url: "t".into(), value: vec![1] });
        assert_eq!(Event { payload, ..Event::default() }.encode_to_vec(), b"\x32\x06\x0a\x01t\x12\x01\x01");
        assert_eq!(Event { traceparent: "t".into(), ..Event::default() }.encode_to_vec(), b"\x3a\x01t");
    }
}
