//! `lease_resources`: (namespace, lease, type, id) → nothing: what a lease names. `lease_resources_by_id`: (type, id,
//! namespace, lease) → nothing: which leases name a thing. `lease_resource_bytes`: (namespace, lease) → how much room its
//! resources take in a reply, so that adding one does not count all. The three are written together, here.

use berth_kv::{Reader, Table, Txn};
use berth_model::Status;
use berth_wire::metadata::Resource;

const RESOURCES: Table<FourTexts, ()> = Table::new("lease_resources");
const BY_ID: Table<FourTexts, ()> = Table::new("lease_resources_by_id");
const BYTES: Table<(String, String), u64> = Table::new("lease_resource_bytes");

pub(crate) fn put(txn: &mut Txn<'_>, namespace: &str, lease: &str, resource: &Resource) -> Result<(), Status> {
    let (forward, back) = keys(namespace, lease, resource);
    if RESOURCES.contains(txn, &forward)? {
        return Ok(());
    }
    RESOURCES.put(txn, &forward, &());
    BY_ID.put(txn, &back, &());
    let bytes = bytes(txn, namespace, lease)? + size_in_reply(resource);
    BYTES.put(txn, &(namespace.to_owned(), lease.to_owned()), &bytes);
    Ok(())
}

pub(crate) fn delete(txn: &mut Txn<'_>, namespace: &str, lease: &str, resource: &Resource) -> Result<(), Status> {
    let (forward, back) = keys(namespace, lease, resource);
    if !RESOURCES.contains(txn, &forward)? {
        return Ok(());
    }
    RESOURCES.delete(txn, &forward);
    BY_ID.delete(txn, &back);
    let owner = (namespace.to_owned(), lease.to_owned());
    match bytes(txn, namespace, lease)?.saturating_sub(size_in_reply(resource)) {
        0 => BYTES.delete(txn, &owner),
        left => BYTES.put(txn, &owner, &left),
    }
    Ok(())
}

/// How much room the resources of a lease take in a reply.
pub(crate) fn bytes(from: &impl Reader, namespace: &str, lease: &str) -> Result<u64, Status> {
    Ok(BYTES.get(from, &(namespace.to_owned(), lease.to_owned()))?.unwrap_or(0))
}

/// Upper bound of what a resource takes: its texts, and a tag and a length for each and for itself.
fn size_in_reply(resource: &Resource) -> u64 {
    u64::try_from(resource.r#type.len() + resource.id.len() + 12).unwrap_or(u64::MAX)
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
        assert_eq!(("n".to_owned(), "l".to_owned()).to_bytes(), b"n\0\x01l\0\x01");
        assert_eq!(back.to_bytes(), b"snapshots/o\0\x01k\0\x01n\0\x01l\0\x01");
    }
}
