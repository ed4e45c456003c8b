//! `snapshot_children`: (namespace, snapshotter, parent, child) → nothing: who stands on whom.

use berth_kv::{Reader, Table, Txn};
use berth_model::Status;

use crate::snapshots::Place;

type Key = (String, String, String, String);

const CHILDREN: Table<Key, ()> = Table::new("snapshot_children");

fn key_of(place: &Place, parent: &str, child: &str) -> Key {
    (place.namespace.clone(), place.snapshotter.clone(), parent.to_owned(), child.to_owned())
}

pub(crate) fn put(txn: &mut Txn<'_>, place: &Place, parent: &str, child: &str) {
    CHILDREN.put(txn, &key_of(place, parent, child), &());
}

pub(crate) fn delete(txn: &mut Txn<'_>, place: &Place, parent: &str, child: &str) {
    CHILDREN.delete(txn, &key_of(place, parent, child));
}

/// Whether anything stands on it.
pub(crate) fn any(from: &impl Reader, place: &Place, parent: &str) -> Result<bool, Status> {
    let prefix = (place.namespace.clone(), place.snapshotter.clone(), parent.to_owned());
    Ok(!CHILDREN.scan(from, &prefix, None, 1)?.is_empty())
}

#[cfg(test)]
mod tests {
    use berth_kv::Key as _;

    use super::*;

    #[test]
    fn the_stored_form_stays() {
        let place = Place { namespace: "n".into(), snapshotter: "o".into() };
        assert_eq!(key_of(&place, "p", "c").to_bytes(), b"n\0\x01o\0\x01p\0\x01c\0\x01");
    }
}
