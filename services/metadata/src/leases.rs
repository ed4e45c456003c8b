//! The rules of leases: when one ends, and what may be added to it.
//!
//! A lease whose time has come protects nothing and takes nothing more, from that moment and not only once the
//! collector removed it: whoever still works under it learns so (`NotFound`) instead of losing what it fetched. It is
//! still listed, for the collector, and its id is free.

use berth_kv::Reader;
use berth_model::{Status, labels, labels::Labels};
use berth_wire::{metadata as msg, types};

use crate::{
    change::Change,
    check,
    collection::Node,
    condemnation,
    fences::Fence,
    missing, resource,
    tables::{lease, lease_resource},
};

/// All resources of one lease together, in bytes: a lease is listed whole, in one reply. About 2500 blobs of a pull.
const MAX_RESOURCE_BYTES: u64 = 448 * 1024;
/// Longest time a lease may be asked for: beyond it the arithmetic of dates ends. 100 years, in seconds.
const LONGEST_SECONDS: u64 = 100 * 365 * 24 * 60 * 60;

/// Whether its time has come.
pub(crate) fn is_over(lease: &msg::Lease, now: types::Time) -> bool {
    lease.expires_at.is_some_and(|end| (end.seconds, end.nanos) <= (now.seconds, now.nanos))
}

/// When a lease ends: after `seconds`, or as the label says (that is how containerd's clients ask; one that cannot be
/// read is ignored, as there). The label then says what is so.
pub(crate) fn expiry(labels: &mut Labels, seconds: u64, now: types::Time) -> Option<types::Time> {
    if seconds == 0 {
        let label: jiff::Timestamp = labels.get(labels::GC_EXPIRE)?.parse().ok()?;
        return Some(std::time::SystemTime::from(label).into());
    }
    let seconds = i64::try_from(seconds.min(LONGEST_SECONDS)).unwrap_or(i64::MAX);
    let end = types::Time { seconds: now.seconds.saturating_add(seconds), nanos: now.nanos };
    labels.insert(labels::GC_EXPIRE.to_owned(), end.to_string());
    Some(end)
}

/// Begins a lease.
pub(crate) fn create(
    change: &mut Change<'_, '_>,
    namespace: &str,
    id: String,
    mut labels: Labels,
    seconds: u64,
) -> Result<msg::Lease, Status> {
    let now = change.now();
    if let Some(present) = lease::get(change.txn(), namespace, &id)? {
        if !is_over(&present, now) {
            return Err(Status::already_exists(format!("lease {id:?} in namespace {namespace:?} already exists")));
        }
        delete(change, namespace, &id)?;
    }
    let expires_at = expiry(&mut labels, seconds, now);
    check::labels(&labels)?;
    let created = msg::Lease { id, labels, created_at: Some(now), expires_at, resources: Vec::new() };
    change.touch_namespace(namespace)?;
    lease::put(change.txn(), namespace, &created);
    Ok(created)
}

/// Moves the end of a lease that is not over.
pub(crate) fn renew(
    change: &mut Change<'_, '_>,
    namespace: &str,
    id: &str,
    seconds: u64,
) -> Result<msg::Lease, Status> {
    let now = change.now();
    let found = lease::get(change.txn(), namespace, id)?.filter(|lease| !is_over(lease, now));
    let mut renewed = found.ok_or_else(|| missing::lease(namespace, id))?;
    renewed.expires_at = expiry(&mut renewed.labels, seconds, now);
    lease::put(change.txn(), namespace, &renewed);
    Ok(renewed)
}

/// Ends a lease.
pub(crate) fn delete(change: &mut Change<'_, '_>, namespace: &str, id: &str) -> Result<(), Status> {
    if lease::get(change.txn(), namespace, id)?.is_none() {
        return Err(missing::lease(namespace, id));
    }
    for named in lease_resource::of(change.txn(), namespace, id)? {
        lease_resource::delete(change.txn(), namespace, id, &named)?;
    }
    lease::delete(change.txn(), namespace, id);
    change.frees();
    Ok(())
}

/// What is written under a lease is written only while it runs: what it protected may be gone otherwise. Nothing is
/// asked of who names none.
pub(crate) fn must_run(change: &mut Change<'_, '_>, namespace: &str, id: &str) -> Result<(), Status> {
    if id.is_empty() || change.lacks(Fence::LeaseRuns) {
        return Ok(());
    }
    let lease = lease::get(change.txn(), namespace, id)?.ok_or_else(|| missing::lease(namespace, id))?;
    refuse_over(&lease, namespace, change.now())
}

fn refuse_over(lease: &msg::Lease, namespace: &str, now: types::Time) -> Result<(), Status> {
    if is_over(lease, now) {
        let id = &lease.id;
        return Err(Status::not_found(format!("lease {id:?} in namespace {namespace:?} not found: its time is over")));
    }
    Ok(())
}

/// Adds resources, all of them or none.
pub(crate) fn add(
    change: &mut Change<'_, '_>,
    namespace: &str,
    id: &str,
    more: &[msg::Resource],
) -> Result<(), Status> {
    let lease = lease::get(change.txn(), namespace, id)?.ok_or_else(|| missing::lease(namespace, id))?;
    refuse_over(&lease, namespace, change.now())?;
    for named in more {
        if named.r#type == resource::CONTENT {
            condemnation::refuse_condemned(change, &check::digest(&named.id)?)?;
        }
        change.keeps(|| Node::leased(namespace, &named.r#type, &named.id));
        lease_resource::put(change.txn(), namespace, id, named)?;
    }
    let bytes = lease_resource::bytes(change.txn(), namespace, id)?;
    if bytes > MAX_RESOURCE_BYTES {
        return Err(Status::resource_exhausted(format!(
            "the resources of lease {id:?} in namespace {namespace:?} would take {bytes} bytes and {MAX_RESOURCE_BYTES} \
             are allowed; use another lease for the rest"
        )));
    }
    Ok(())
}

/// Takes resources off; those that are not on it are fine.
pub(crate) fn take_off(
    change: &mut Change<'_, '_>,
    namespace: &str,
    id: &str,
    less: &[msg::Resource],
) -> Result<(), Status> {
    if lease::get(change.txn(), namespace, id)?.is_none() {
        return Err(missing::lease(namespace, id));
    }
    change.frees();
    less.iter().try_for_each(|named| lease_resource::delete(change.txn(), namespace, id, named))
}

/// A lease that runs and names the thing: namespace and id.
pub(crate) fn any_running(
    from: &impl Reader,
    named: &msg::Resource,
    now: types::Time,
) -> Result<Option<(String, String)>, Status> {
    let mut holders = lease_resource::holders(from, &named.r#type, &named.id, None)?;
    // What a client writes through the gateway is NAMESPACE/REF at the content service, and REF for leases of the namespace.
    if named.r#type == resource::INGESTS
        && let Some((namespace, reference)) = named.id.split_once('/')
    {
        holders.extend(lease_resource::holders(from, &named.r#type, reference, Some(namespace))?);
    }
    for (namespace, id) in holders {
        if lease::get(from, &namespace, &id)?.is_some_and(|lease| !is_over(&lease, now)) {
            return Ok(Some((namespace, id)));
        }
    }
    Ok(None)
}

/// Renames a resource in every lease of the namespace that names it.
pub(crate) fn rename(
    change: &mut Change<'_, '_>,
    namespace: &str,
    from: &msg::Resource,
    to: &str,
) -> Result<(), Status> {
    let to = msg::Resource { r#type: from.r#type.clone(), id: to.to_owned() };
    for (_, id) in lease_resource::holders(change.txn(), &from.r#type, &from.id, Some(namespace))? {
        lease_resource::delete(change.txn(), namespace, &id, from)?;
        change.keeps(|| Node::leased(namespace, &to.r#type, &to.id));
        lease_resource::put(change.txn(), namespace, &id, &to)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_as_a_table() {
        let now = types::Time { seconds: 1_700_000_000, nanos: 5 };
        let labelled = |text: &str| Labels::from([(labels::GC_EXPIRE.to_owned(), text.to_owned())]);
        for (mut given, seconds, end, label) in [
            (Labels::new(), 0, None, None),
            (Labels::new(), 60, Some((1_700_000_060, 5)), Some("2023-11-14T22:14:20.000000005Z")),
            (labelled("2023-11-14T22:14:20Z"), 0, Some((1_700_000_060, 0)), Some("2023-11-14T22:14:20Z")),
            (labelled("2023-11-14T23:14:20+01:00"), 0, Some((1_700_000_060, 0)), Some("2023-11-14T23:14:20+01:00")),
            (labelled("soon"), 0, None, Some("soon")),
            (labelled("soon"), 60, Some((1_700_000_060, 5)), Some("2023-11-14T22:14:20.000000005Z")),
        ] {
            let found = expiry(&mut given, seconds, now).map(|end| (end.seconds, end.nanos));
            assert_eq!((found, given.get(labels::GC_EXPIRE).map(String::as_str)), (end, label));
        }
        assert!(expiry(&mut Labels::new(), u64::MAX, now).is_some());
    }

    #[test]
    fn a_lease_is_over_at_its_end_and_not_before() {
        let end = types::Time { seconds: 10, nanos: 5 };
        let lease = msg::Lease { expires_at: Some(end), ..msg::Lease::default() };
        for (seconds, nanos, over) in [(9, 9, false), (10, 4, false), (10, 5, true), (11, 0, true)] {
            assert_eq!(is_over(&lease, types::Time { seconds, nanos }), over, "{seconds}.{nanos}");
        }
        assert!(!is_over(&msg::Lease::default(), end));
    }
}
