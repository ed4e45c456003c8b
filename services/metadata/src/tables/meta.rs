//! `meta`: name → a number or a text: the counters, the bounds of the outbox, its name, the relay's cursor.

use berth_kv::{Reader, Table, Txn};
use berth_model::Status;

const NUMBERS: Table<String, u64> = Table::new("meta");
const TEXTS: Table<String, String> = Table::new("meta");

const LAST_SNAPSHOT_ID: &str = "last_snapshot_id";
const LAST_EVENT: &str = "last_event";
const FIRST_EVENT: &str = "first_event";
const RELAY_CURSOR: &str = "relay_cursor";
const OUTBOX_ID: &str = "outbox_id";
const TRANSFER_TERM: &str = "transfer_term";
const PULLS_ENDED: &str = "pulls_ended";

fn number(from: &impl Reader, name: &str) -> Result<Option<u64>, Status> {
    NUMBERS.get(from, &name.to_owned())
}

fn set(txn: &mut Txn<'_>, name: &str, value: u64) {
    NUMBERS.put(txn, &name.to_owned(), &value);
}

/// Takes the next snapshot id, the first is 1.
pub(crate) fn next_snapshot_id(txn: &mut Txn<'_>) -> Result<u64, Status> {
    let id = number(txn, LAST_SNAPSHOT_ID)?.unwrap_or(0) + 1;
    set(txn, LAST_SNAPSHOT_ID, id);
    Ok(id)
}

/// The sequence of the newest event; 0 if there was none.
pub(crate) fn last_event(from: &impl Reader) -> Result<u64, Status> {
    Ok(number(from, LAST_EVENT)?.unwrap_or(0))
}

pub(crate) fn set_last_event(txn: &mut Txn<'_>, sequence: u64) {
    set(txn, LAST_EVENT, sequence);
}

/// The sequence of the oldest event that is kept; if there is none, of the next one.
pub(crate) fn first_event(from: &impl Reader) -> Result<u64, Status> {
    Ok(number(from, FIRST_EVENT)?.unwrap_or(1))
}

pub(crate) fn set_first_event(txn: &mut Txn<'_>, sequence: u64) {
    set(txn, FIRST_EVENT, sequence);
}

/// The last relayed event, if there was ever a relay.
pub(crate) fn relay_cursor(from: &impl Reader) -> Result<Option<u64>, Status> {
    number(from, RELAY_CURSOR)
}

pub(crate) fn set_relay_cursor(txn: &mut Txn<'_>, sequence: u64) {
    set(txn, RELAY_CURSOR, sequence);
}

/// The term of the transfer service that leads; 0 if none ever did.
pub(crate) fn transfer_term(from: &impl Reader) -> Result<u64, Status> {
    Ok(number(from, TRANSFER_TERM)?.unwrap_or(0))
}

pub(crate) fn set_transfer_term(txn: &mut Txn<'_>, term: u64) {
    set(txn, TRANSFER_TERM, term);
}

/// How many records of pulls that ended there are.
pub(crate) fn pulls_ended(from: &impl Reader) -> Result<u64, Status> {
    Ok(number(from, PULLS_ENDED)?.unwrap_or(0))
}

pub(crate) fn set_pulls_ended(txn: &mut Txn<'_>, change: impl FnOnce(u64) -> u64) -> Result<(), Status> {
    let count = change(pulls_ended(txn)?);
    set(txn, PULLS_ENDED, count);
    Ok(())
}

/// The name of this outbox; `fresh` if it has none yet.
pub(crate) fn outbox_id_or(txn: &mut Txn<'_>, fresh: String) -> Result<String, Status> {
    if let Some(present) = TEXTS.get(txn, &OUTBOX_ID.to_owned())? {
        return Ok(present);
    }
    TEXTS.put(txn, &OUTBOX_ID.to_owned(), &fresh);
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use berth_kv::Key;
    use prost::Message;

    use super::*;

    #[test]
    fn the_stored_form_stays() {
        assert_eq!(LAST_EVENT.to_owned().to_bytes(), b"last_event\0\x01");
        let names = [LAST_SNAPSHOT_ID, LAST_EVENT, FIRST_EVENT, RELAY_CURSOR, OUTBOX_ID, TRANSFER_TERM, PULLS_ENDED];
        let stored = [
            "last_snapshot_id",
            "last_event",
            "first_event",
            "relay_cursor",
            "outbox_id",
            "transfer_term",
            "pulls_ended",
        ];
        assert_eq!(names, stored);
        assert_eq!(258_u64.encode_to_vec(), b"\x08\x82\x02");
        assert_eq!("x".to_owned().encode_to_vec(), b"\x0a\x01x");
    }
}
