//! The rules of pulls' records: who may write them, and what their beginning and end carry along: a lease and an event,
//! in the same batch.

use berth_model::{Code, Status};
use berth_wire::metadata::{self as msg, pull_record::State};

use crate::{
    change::Change,
    event::Fact,
    leases,
    snapshots::{self, Place},
    tables::{lease, lease_resource, meta, pull, snapshot},
};

/// Which records stay of pulls that ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// So many at most.
    pub(crate) most: u64,
    /// And for so long.
    pub(crate) seconds: u64,
}

/// Dropped at once at most, so that no change pays for many.
const DROPPED_AT_ONCE: usize = 16;

/// Begins a term.
pub(crate) fn begin_term(change: &mut Change<'_, '_>) -> Result<u64, Status> {
    let term = meta::transfer_term(change.txn())? + 1;
    meta::set_transfer_term(change.txn(), term);
    Ok(term)
}

/// Refuses whoever led before the present leader did.
pub(crate) fn must_lead(change: &mut Change<'_, '_>, term: u64) -> Result<(), Status> {
    let present = meta::transfer_term(change.txn())?;
    if term != present {
        return Err(Status::aborted(format!(
            "another transfer service leads since: its term is {present}, this one's was {term}"
        )));
    }
    Ok(())
}

fn missing(id: &str) -> Status {
    Status::not_found(format!("pull {id:?} not found: there was none, or it ended long ago"))
}

/// One that did not end.
fn running(change: &mut Change<'_, '_>, id: &str) -> Result<msg::PullRecord, Status> {
    let pull = pull::get(change.txn(), id)?.ok_or_else(|| missing(id))?;
    if pull.state() != State::Running {
        return Err(Status::failed_precondition(format!("pull {id} of {} is over", pull.reference)));
    }
    Ok(pull)
}

/// One record.
pub(crate) fn get(from: &impl berth_kv::Reader, id: &str) -> Result<msg::PullRecord, Status> {
    pull::get(from, id)?.ok_or_else(|| missing(id))
}

/// Records a pull that begins, with its lease.
pub(crate) fn create(
    change: &mut Change<'_, '_>,
    mut pull: msg::PullRecord,
    lease_seconds: u64,
) -> Result<msg::PullRecord, Status> {
    if let Some(present) = pull::get(change.txn(), &pull.id)? {
        // The call was sent again.
        if (&present.namespace, &present.reference) == (&pull.namespace, &pull.reference) {
            return Ok(present);
        }
        return Err(Status::already_exists(format!("pull {} already exists, of {}", pull.id, present.reference)));
    }
    let now = change.now();
    pull.lease = format!("pull-{}", pull.id);
    pull.created_at = Some(now);
    pull.started_at = Some(now);
    pull.starts = 1;
    pull.ended_at = None;
    pull.set_state(State::Running);
    begin_lease(change, &pull, lease_seconds)?;
    pull::put(change.txn(), &pull);
    let fact = Fact::PullStarted { id: pull.id.clone(), reference: pull.reference.clone() };
    change.report(&pull.namespace, &fact);
    Ok(pull)
}

fn begin_lease(change: &mut Change<'_, '_>, pull: &msg::PullRecord, seconds: u64) -> Result<(), Status> {
    let labels = berth_model::labels::Labels::new();
    leases::create(change, &pull.namespace, pull.lease.clone(), labels, seconds).map(drop)
}

/// Takes a pull up again: its lease is good from now on, anew if its time was over.
pub(crate) fn resume(change: &mut Change<'_, '_>, id: &str, lease_seconds: u64) -> Result<msg::PullRecord, Status> {
    let mut pull = running(change, id)?;
    match leases::renew(change, &pull.namespace, &pull.lease, lease_seconds) {
        Err(status) if status.code == Code::NotFound => begin_lease(change, &pull, lease_seconds)?,
        renewed => drop(renewed?),
    }
    pull.started_at = Some(change.now());
    pull.starts = pull.starts.saturating_add(1);
    pull::put(change.txn(), &pull);
    Ok(pull)
}

/// Changes what is given.
pub(crate) fn update(change: &mut Change<'_, '_>, request: msg::UpdatePullRequest) -> Result<msg::PullRecord, Status> {
    let priority = request.priority.is_some().then(|| request.priority());
    let mut pull = running(change, &request.id)?;
    pull.detached |= request.detach;
    pull.progress = request.progress.or(pull.progress);
    pull.target = request.target.or(pull.target);
    if let Some(priority) = priority {
        pull.set_priority(priority);
    }
    pull::put(change.txn(), &pull);
    Ok(pull)
}

/// Records the end of a pull.
pub(crate) fn end(
    change: &mut Change<'_, '_>,
    request: msg::EndPullRequest,
    keep: Keep,
) -> Result<msg::PullRecord, Status> {
    let mut pull = pull::get(change.txn(), &request.id)?.ok_or_else(|| missing(&request.id))?;
    if pull.state() != State::Running {
        return Ok(pull);
    }
    drop_unfilled(change, &pull.namespace, request.unfilled)?;
    end_lease(change, &pull, request.keep_seconds)?;
    pull.ended_at = Some(change.now());
    pull.progress = request.progress.or(pull.progress);
    pull.target = request.target.or(pull.target);
    pull.code = request.code;
    pull.message = request.message;
    pull.chain_ids = request.chain_ids;
    pull.verdict = request.verdict;
    pull.set_state(if pull.code == 0 { State::Done } else { State::Failed });
    pull::put(change.txn(), &pull);
    let (id, reference) = (pull.id.clone(), pull.reference.clone());
    let digest = pull.target.as_ref().map(|target| target.digest.clone()).unwrap_or_default();
    let verdict = pull.verdict.clone().unwrap_or_default();
    let fact = match pull.state() {
        State::Done => Fact::PullDone { id, reference, digest, verdict },
        _ => Fact::PullFailed {
            id,
            reference,
            code: Code::from_number(pull.code).words().to_owned(),
            message: pull.message.clone(),
            verdict,
        },
    };
    change.report(&pull.namespace, &fact);
    meta::set_pulls_ended(change.txn(), |count| count + 1)?;
    forget_old(change, keep)?;
    Ok(pull)
}

/// Drops what was prepared for the pull and has no directory; another one's may have its key by now.
fn drop_unfilled(
    change: &mut Change<'_, '_>,
    namespace: &str,
    unfilled: Vec<msg::end_pull_request::Unfilled>,
) -> Result<(), Status> {
    for one in unfilled {
        let place = Place::parse(namespace, &one.snapshotter)?;
        if snapshot::get(change.txn(), &place, &one.key)?.is_some_and(|present| present.id == one.id) {
            snapshots::remove(change, &place, &one.key, one.id)?;
        }
    }
    Ok(())
}

/// The lease goes at once, or in its time if it keeps something that the next try may want.
fn end_lease(change: &mut Change<'_, '_>, pull: &msg::PullRecord, keep_seconds: u64) -> Result<(), Status> {
    let (namespace, id) = (pull.namespace.as_str(), pull.lease.as_str());
    if lease::get(change.txn(), namespace, id)?.is_none() {
        return Ok(());
    }
    if keep_seconds == 0 || lease_resource::bytes(change.txn(), namespace, id)? == 0 {
        return leases::delete(change, namespace, id);
    }
    match leases::renew(change, namespace, id, keep_seconds) {
        // Its time was over.
        Err(status) if status.code == Code::NotFound => Ok(()),
        renewed => renewed.map(drop),
    }
}

/// Drops a few of those that are too many or too old.
fn forget_old(change: &mut Change<'_, '_>, keep: Keep) -> Result<(), Status> {
    let too_old = pull::seconds(change.now()).saturating_sub(keep.seconds);
    let count = meta::pulls_ended(change.txn())?;
    let mut dropped = 0;
    for (ended, id) in pull::oldest_ended(change.txn(), DROPPED_AT_ONCE)? {
        if ended >= too_old && count - dropped <= keep.most {
            break;
        }
        pull::forget(change.txn(), ended, &id);
        dropped += 1;
    }
    meta::set_pulls_ended(change.txn(), |count| count.saturating_sub(dropped))
}
