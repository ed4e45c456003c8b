//! `leases`: (namespace, id) → the lease, without its resources: those have a table of their own, so that adding one
//! does not write all again.

use berth_kv::{Reader, Table, Txn};
use berth_model::Status;
use berth_wire::metadata::Lease;

use super::{lease_resource, pages};
use crate::page::Page;

const LEASES: Table<(String, String), Lease> = Table::new("leases");

/// A lease without its resources.
pub(crate) fn get(from: &impl Reader, namespace: &str, id: &str) -> Result<Option<Lease>, Status> {
    LEASES.get(from, &(namespace.to_owned(), id.to_owned()))
}

pub(crate) fn put(txn: &mut Txn<'_>, namespace: &str, lease: &Lease) {
    LEASES.put(txn, &(namespace.to_owned(), lease.id.clone()), lease);
}

pub(crate) fn delete(txn: &mut Txn<'_>, namespace: &str, id: &str) {
    LEASES.delete(txn, &(namespace.to_owned(), id.to_owned()));
}

/// The leases of a namespace after an id, by id, with their resources.
pub(crate) fn fill(from: &impl Reader, namespace: &str, after: &str, page: &mut Page<Lease>) -> Result<(), Status> {
    let namespace = namespace.to_owned();
    let after = (!after.is_empty()).then(|| (namespace.clone(), after.to_owned()));
    pages::fill(&LEASES, from, &namespace, after, page, |from, (namespace, id), lease| {
        Ok(Lease { resources: lease_resource::of(from, namespace, id)?, ..lease })
    })
}

/// All leases of all namespaces, without their resources.
pub(crate) fn each(from: &impl Reader, mut visit: impl FnMut(&str, Lease) -> Result<(), Status>) -> Result<(), Status> {
    pages::each(&LEASES, from, |(namespace, _), lease| visit(&namespace, lease))
}

#[cfg(test)]
mod tests {
    use berth_kv::Key;
    use berth_wire::types::Time;
    use prost::Message;

    use super::*;

    #[test]
    fn the_stored_form_stays() {
        assert_eq!(("n".to_owned(), "l".to_owned()).to_bytes(), b"n\0\x01l\0\x01");
        let lease = Lease {
            id: "l".into(),
            labels: [("k".to_owned(), "v".to_owned())].into(),
            created_at: Some(Time { seconds: 1, nanos: 2 }),
            expires_at: Some(Time { seconds: 3, nanos: 0 }),
            resources: Vec::new(),
        };
        let bytes = b"\x0a\x01l\x12\x06\x0a\x01k\x12\x01v\x1a\x04\x08\x01\x10\x02\x22\x02\x08\x03";
        assert_eq!(lease.encode_to_vec(), bytes);
    }
}
