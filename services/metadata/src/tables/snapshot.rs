//! `snapshots`: (namespace, snapshotter, key) → the record; committed ones under their name.

use berth_kv::{Reader, Table, Txn};
use berth_model::Status;
use berth_wire::metadata::Snapshot;

use super::pages;
use crate::{page::Page, snapshots::Place};

const SNAPSHOTS: Table<(String, String, String), Snapshot> = Table::new("snapshots");

fn key_of(place: &Place, key: &str) -> (String, String, String) {
    (place.namespace.clone(), place.snapshotter.clone(), key.to_owned())
}

pub(crate) fn get(from: &impl Reader, place: &Place, key: &str) -> Result<Option<Snapshot>, Status> {
    SNAPSHOTS.get(from, &key_of(place, key))
}

pub(crate) fn put(txn: &mut Txn<'_>, place: &Place, snapshot: &Snapshot) {
    SNAPSHOTS.put(txn, &key_of(place, &snapshot.name), snapshot);
}

pub(crate) fn delete(txn: &mut Txn<'_>, place: &Place, key: &str) {
    SNAPSHOTS.delete(txn, &key_of(place, key));
}

/// The snapshots of a snapshotter after a key, by key.
pub(crate) fn fill(from: &impl Reader, place: &Place, after: &str, page: &mut Page<Snapshot>) -> Result<(), Status> {
    let prefix = (place.namespace.clone(), place.snapshotter.clone());
    let after = (!after.is_empty()).then(|| key_of(place, after));
    pages::fill(&SNAPSHOTS, from, &prefix, after, page, |_, _, snapshot| Ok(snapshot))
}

/// A snapshot of the namespace: its snapshotter and key.
pub(crate) fn any_in(from: &impl Reader, namespace: &str) -> Result<Option<(String, String)>, Status> {
    let found = SNAPSHOTS.scan(from, &namespace.to_owned(), None, 1)?.pop();
    Ok(found.map(|((_, snapshotter, key), _)| (snapshotter, key)))
}

/// All snapshots of all snapshotters in all namespaces.
pub(crate) fn each(
    from: &impl Reader,
    mut visit: impl FnMut(&Place, Snapshot) -> Result<(), Status>,
) -> Result<(), Status> {
    pages::each(&SNAPSHOTS, from, |(namespace, snapshotter, _), snapshot| {
        visit(&Place { namespace, snapshotter }, snapshot)
    })
}

#[cfg(test)]
mod tests {
    use berth_kv::Key;
    use berth_wire::types::{Time, Usage};
    use prost::Message;

    use super::*;

    #[test]
    fn the_stored_form_stays() {
        let place = Place { namespace: "n".into(), snapshotter: "o".into() };
        assert_eq!(key_of(&place, "k").to_bytes(), b"n\0\x01o\0\x01k\0\x01");
        let snapshot = Snapshot {
            name: "k".into(),
            parent: "p".into(),
            kind: berth_wire::metadata::snapshot::Kind::Committed.into(),
            created_at: Some(Time { seconds: 1, nanos: 2 }),
            updated_at: Some(Time { seconds: 3, nanos: 0 }),
            labels: [("k".to_owned(), "v".to_owned())].into(),
            usage: Some(Usage { inodes: 4, size: 5 }),
            id: 6,
        };
        let bytes = b"\x0a\x01k\x12\x01p\x18\x03\x22\x04\x08\x01\x10\x02\x2a\x02\x08\x03\x32\x06\x0a\x01k\x12\x01v\x3a\x04\x08\x04\x10\x05\x40\x06";
        assert_eq!(snapshot.encode_to_vec(), bytes);
    }
}
