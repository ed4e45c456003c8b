//! `lease_resources`: (namespace, lease, type, id) → nothing: what a lease names. `lease_resources_by_id`: (type, id,
//! namespace, lease) → nothing: which leases name a thing. The two are written together, here.

use berth_kv::{Reader, Table, Txn};
use berth_model::Status;
use berth_wire::metadata::Resource;

const RESOURCES: Table<(String, String, String, String), ()> = Table::new("lease_resources");
const BY_ID: Table<(String, String, String, String), ()> = Table::new("lease_resources_by_id");

pub(crate) fn put(txn: &mut Txn<'_>, namespace: &str, lease: &str, resource: &Resource) {
    let (forward, back) = keys(namespace, lease, resource);
    RESOURCES.put(txn, &forward, &());
    BY_ID.put(txn, &back, &());
}

pub(crate) fn delete(txn: &mut Txn<'_>, namespace: &str, lease: &str, resource: &Resource) {
    let (forward, back) = keys(namespace, lease, resource);
    RESOURCES.delete(txn, &forward);
    BY_ID.delete(txn, &back);
}

type FourTexts = (String, String, String, String);

fn keys(namespace: &str, lease: &str, resource: &Resource) -> (FourTexts, FourTexts) {
    let (namespace, lease) = (namespace.to_owned(), lease.to_owned());
    let Resource { r#type, id } = resource.clone();
    ((namespace.clone(), lease.clone(), r#type.clone(), id.clone()), (r#type, id, namespace, lease))
}

/// What a lease names, by type and id. Their number is bounded by what may be added to a lease.
pub(crate) fn of(from: &impl Reader, namespace: &str, lease: &str) -> Result<Vec<Resource>, Status> {
    let rows = RESOURCES.scan(from, &(namespace.to_owned(), lease.to_owned()), None, usize::MAX)?;
    Ok(rows.into_iter().map(|((_, _, r#type, id), ())| Resource { r#type, id }).collect())
}

/// The leases (namespace, id) that name a thing; of one namespace only, if one is given.
pub(crate) fn holders(
    from: &impl Reader,
    r#type: &str,
    id: &str,
    namespace: Option<&str>,
) -> Result<Vec<(String, String)>, Status> {
    let (r#type, id) = (r#type.to_owned(), id.to_owned());
    let rows = match namespace {
        Some(namespace) => BY_ID.scan(from, &(r#type, id, namespace.to_owned()), None, usize::MAX)?,
        None => BY_ID.scan(from, &(r#type, id), None, usize::MAX)?,
    };
    Ok(rows.into_iter().map(|((_, _, namespace, lease), ())| (namespace, lease)).collect())
}

#[cfg(test)]
mod tests {
    use berth_kv::Key;

    use super::*;

    #[test]
    fn the_stored_form_stays() {
        let (forward, back) = keys("n", "l", &Resource { r#type: "snapshots/o".into(), id: "k".into() });
        assert_eq!(forward.to_bytes(), b"n\0\x01l\0\x01snapshots/o\0\x01k\0\x01");
        assert_eq!(back.to_bytes(), b"snapshots/o\0\x01k\0\x01n\0\x01l\0\x01");
    }
}
