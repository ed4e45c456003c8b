//! How the bytes of a blob may be deleted while others pull: first they are condemned.
//!
//! A condemnation is given only while no namespace records the digest and no running lease names it, and while it lasts
//! nobody can record or lease it. Changes are made one after another, so between "nobody needs it" and "nobody may
//! begin to need it" there is no gap. It ends by itself, so that a deleter that dies blocks nobody for long: the deleter
//! must be done, or stop, before `until`. Between its look at the clock and its deletion it may be held up, so the bar
//! stands for a while beyond that.
//!
//! Where all services are in one process, a deleter of before died with its process: what that one had condemned is over as
//! soon as this process has the stores.
//!
//! While it lasts a second one is refused: two deleters of one digest could otherwise end each other's, and the slower
//! one would delete bytes that were fetched anew meanwhile.

use std::time::Duration;

use berth_kv::Db;
use berth_model::{Digest, Status};
use berth_wire::{metadata as msg, types};
use tokio::sync::watch;

use crate::{
    change::Change,
    fences::Fence,
    leases, resource,
    tables::{condemned, content},
};

/// How long a condemnation lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lasts {
    /// The deleter's leave.
    pub(crate) leave: Duration,
    /// How much longer nobody can record or lease the digest.
    pub(crate) grace: Duration,
}

/// Condemns; says until when the bytes may be deleted.
pub(crate) fn condemn(change: &mut Change<'_, '_>, digest: &Digest, lasts: Lasts) -> Result<types::Time, Status> {
    refuse_second(change, digest)?;
    if !change.lacks(Fence::CondemnationLooks) {
        refuse_used(change, digest)?;
    }
    let until = later(change.now(), lasts.leave);
    condemned::put(change.txn(), digest, later(until, lasts.grace));
    Ok(until)
}

fn later(time: types::Time, by: Duration) -> types::Time {
    let nanos = time.nanos + by.subsec_nanos();
    let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX).saturating_add((nanos / 1_000_000_000).into());
    types::Time { seconds: time.seconds.saturating_add(seconds), nanos: nanos % 1_000_000_000 }
}

fn refuse_used(change: &mut Change<'_, '_>, digest: &Digest) -> Result<(), Status> {
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
    Ok(())
}

/// Ends the condemnation whose leave ends then; one that is not there ended already. Another's stays: a message that
/// comes late would otherwise end it under its deleter's hands.
pub(crate) fn absolve(
    change: &mut Change<'_, '_>,
    digest: &Digest,
    until: types::Time,
    lasts: Lasts,
) -> Result<(), Status> {
    if condemned::get(change.txn(), digest)? == Some(later(until, lasts.grace)) || change.lacks(Fence::OwnCondemnation)
    {
        condemned::delete(change.txn(), digest);
    }
    Ok(())
}

/// Ends what was condemned before this start, as soon as nobody else can be deleting. What was condemned since then stays.
pub(crate) async fn end_left(db: Db, left: Vec<(Digest, types::Time)>, mut alone: watch::Receiver<bool>) {
    // Whoever would have said so is gone, and others may be deleting.
    if alone.wait_for(|alone| *alone).await.is_err() {
        return;
    }
    let count = left.len();
    let ended = db.write(move |txn| {
        for (digest, until) in left {
            if condemned::get(txn, &digest)? == Some(until) {
                condemned::delete(txn, &digest);
            }
        }
        Ok::<_, Status>(())
    });
    match ended.await {
        Ok(()) => tracing::info!(count, "blobs that somebody was deleting when it died may be fetched again"),
        Err(status) => tracing::warn!(%status, "what was condemned before this start ends by itself"),
    }
}

/// What must be asked before anything may name the digest.
pub(crate) fn refuse_condemned(change: &mut Change<'_, '_>, digest: &Digest) -> Result<(), Status> {
    if change.lacks(Fence::CondemnationBars) { Ok(()) } else { refuse_second(change, digest) }
}

fn refuse_second(change: &mut Change<'_, '_>, digest: &Digest) -> Result<(), Status> {
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
