//! `condemned`: digest → until when nobody may record or lease it.

use berth_kv::{Reader, Table, Txn, View};
use berth_model::{Digest, Status};
use berth_wire::types::Time;

const CONDEMNED: Table<Digest, Time> = Table::new("condemned");

pub(crate) fn get(from: &impl Reader, digest: &Digest) -> Result<Option<Time>, Status> {
    CONDEMNED.get(from, digest)
}

/// All that were condemned and not absolved.
pub(crate) fn all(view: &View<'_>) -> Result<Vec<(Digest, Time)>, Status> {
    CONDEMNED.scan(view, &(), None, usize::MAX)
}

pub(crate) fn put(txn: &mut Txn<'_>, digest: &Digest, until: Time) {
    CONDEMNED.put(txn, digest, &until);
}

pub(crate) fn delete(txn: &mut Txn<'_>, digest: &Digest) {
    CONDEMNED.delete(txn, digest);
}

#[cfg(test)]
mod tests {
    use berth_kv::Key;
    use prost::Message;

    use super::*;

    #[test]
    fn the_stored_form_stays() {
        assert_eq!(Digest::from_sha256([7; 32]).to_bytes(), [7; 32]);
        assert_eq!(Time { seconds: 1, nanos: 2 }.encode_to_vec(), b"\x08\x01\x10\x02");
    }
}
