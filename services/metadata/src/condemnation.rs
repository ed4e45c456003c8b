//! How the bytes of a blob may be deleted while others pull: first they are condemned.
//!
//! A condemnation is given only while no namespace records the digest and no running lease names it, and while it lasts
//! nobody can record or lease it. Changes are made one after another, so between "nobody needs it" and "nobody may
//! begin to need it" there is no gap. It ends by itself, so that a deleter that dies blocks nobody for long: the deleter
//! must be done, or stop, before `until`.
//!
//! While it lasts a second one is refused: two deleters of one digest could otherwise end each other's, and the slower
//! one would delete bytes that were fetched anew meanwhile.

use berth_model::{Digest, Status};
use berth_wire::{metadata as msg, types};

use crate::{
    change::Change,
    leases, resource,
    tables::{condemned, content},
};

/// How long a condemnation lasts, in seconds.
const LASTS_SECONDS: i64 = 30;

/// Condemns; says until when.
pub(crate) fn condemn(change: &mut Change<'_, '_>, digest: &Digest) -> Result<types::Time, Status> {
    refuse_condemned(change, digest)?;
    if let Some(namespace) = content::any_namespace(change.txn(), digest)? {
        return Err(Status::failed_precondition(format!(
            "content {digest} is in use: namespace {namespace:?} records it"
        )));
    }
    let now = change.now();
    let named = msg::Resource { r#type: resource::CONTENT.to_owned(), id: digest.to_string() };
    if let Some((namespace, id)) = leases::any_running(change.txn(), &named, now)? {
        return Err(Status::failed_precondition(format!(
            "content {digest} is in use: lease {id:?} in namespace {namespace:?} names it"
        )));
    }
    let until = types::Time { seconds: now.seconds.saturating_add(LASTS_SECONDS), nanos: now.nanos };
    condemned::put(change.txn(), digest, until);
    Ok(until)
}

/// Ends a condemnation; one that is not there ended already.
pub(crate) fn absolve(change: &mut Change<'_, '_>, digest: &Digest) {
    condemned::delete(change.txn(), digest);
}

/// What must be asked before anything may name the digest.
pub(crate) fn refuse_condemned(change: &mut Change<'_, '_>, digest: &Digest) -> Result<(), Status> {
    let now = change.now();
    match condemned::get(change.txn(), digest)? {
        Some(until) if now.millis() < until.millis() => {
            Err(Status::unavailable(format!("content {digest} is being deleted, try again")))
        }
        Some(_over) => {
            condemned::delete(change.txn(), digest);
            Ok(())
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
