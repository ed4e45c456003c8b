//! One blob of a pull: fetched by a job; and, if it is a layer to unpack, unpacked by another while it arrives. Each job
//! waits for its pull's turn, and none is begun while an equal one of another pull is under way.

use std::sync::OnceLock;

use berth_bus::JobUpdate;
use berth_model::{Descriptor, Status};
use berth_wire::{
    Job as _,
    fetcher::FetchOutcome,
    transfer::pull_state::item::Stage,
    types::BlobPlace,
    unpacker::{UnpackJob, UnpackOutcome},
};
use tokio::sync::watch;

use crate::{
    ledger::What,
    pull::Pull,
    slots::{Leading, UnderWay},
    work::is_tiny,
};

/// How far the bytes of a blob have come, as its unpacking needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Arrival {
    /// No byte yet: do not take an unpacker's place for it.
    Waiting,
    /// Some bytes are there.
    Begun,
    /// The blob is committed.
    Complete,
}

/// A blob on its way: how far it has come, and where it is in the end.
pub(crate) struct Coming {
    arrival: watch::Sender<Arrival>,
    place: OnceLock<BlobPlace>,
}

impl Coming {
    pub(crate) fn new() -> Self {
        Self { arrival: watch::Sender::new(Arrival::Waiting), place: OnceLock::new() }
    }

    /// Waits until it is committed. Who brings it must outlive this.
    pub(crate) async fn is_complete(&self) {
        self.is_at_least(Arrival::Complete).await;
    }

    async fn is_at_least(&self, level: Arrival) {
        // The sender lives here: it cannot be gone.
        drop(self.arrival.subscribe().wait_for(|arrival| *arrival >= level).await);
    }

    fn begun(&self) {
        self.arrival.send_if_modified(|arrival| std::mem::replace(arrival, Arrival::Begun) != Arrival::Begun);
    }

    /// The place before the news, so that who hears it knows it.
    fn complete(&self, place: Option<BlobPlace>) {
        if let Some(place) = place {
            // A blob is fetched once here.
            let _first = self.place.set(place);
        }
        self.arrival.send_replace(Arrival::Complete);
    }
}

/// Fetches a blob. Done at once when the store has it. `then` is the stage it is in afterwards.
pub(crate) async fn fetch(
    pull: &Pull,
    descriptor: &Descriptor,
    coming: &Coming,
    then: Stage,
) -> Result<FetchOutcome, Status> {
    let key = descriptor.digest.to_string();
    let arrives = |offset: u64| {
        pull.board.item(descriptor, |item| {
            item.offset = offset;
            item.set_stage(Stage::Downloading);
        });
        if offset > 0 {
            coming.begun();
        }
    };
    let (ledger, subject) = (&pull.board.ledger, Some(descriptor.digest));
    let mut there = false;
    let outcome = loop {
        if !there && let Some(other) = pull.work.fetching.present(&key) {
            there = ledger.step(subject, What::FetchTurn, follow(other, arrives)).await;
        }
        let turn = pull.work.fetches(descriptor, there);
        let _place = ledger.step(subject, What::FetchTurn, turn.take(&pull.id, pull.weight())).await;
        let leading = if there { None } else { Some(pull.work.fetching.begin(&key)) };
        let leading = match leading {
            // Another pull was faster; its place is better used by others meanwhile.
            Some(Err(_other)) => continue,
            Some(Ok(leading)) => Some(leading),
            None => None,
        };
        break ledger.step(subject, What::Fetch, run_fetch(pull, descriptor, leading.as_ref(), arrives)).await?;
    };
    ledger.fetched(descriptor, &outcome, there);
    pull.board.item(descriptor, |item| {
        item.offset = descriptor.size;
        item.fetched = outcome.fetched;
        item.set_stage(if outcome.existed && then == Stage::Done { Stage::Exists } else { then });
    });
    coming.complete(outcome.place.clone());
    Ok(outcome)
}

/// Shows how far another pull's job for the same blob is, until it is over. `true`: it ended well.
async fn follow(mut other: watch::Receiver<UnderWay>, arrives: impl Fn(u64)) -> bool {
    loop {
        let UnderWay { offset, done } = *other.borrow_and_update();
        if done {
            return true;
        }
        if offset > 0 {
            arrives(offset);
        }
        if other.changed().await.is_err() {
            return other.borrow().done;
        }
    }
}

async fn run_fetch(
    pull: &Pull,
    descriptor: &Descriptor,
    leading: Option<&Leading>,
    arrives: impl Fn(u64),
) -> Result<FetchOutcome, Status> {
    let mut handle = pull.bus.submit(pull.fetch_job(descriptor)).await?;
    loop {
        match handle.next().await {
            JobUpdate::Progress(progress) => {
                arrives(progress.offset);
                if let Some(leading) = leading {
                    leading.tell(progress.offset);
                }
            }
            JobUpdate::Done(outcome) => {
                let outcome = outcome?;
                if let Some(leading) = leading {
                    leading.done();
                }
                return Ok(outcome);
            }
        }
    }
}

/// Unpacks a layer from the moment its bytes begin to arrive; a tiny one when they are there.
///
/// An unpacking that began before the blob was proved may fail because the bytes were wrong; then the fetch says so, or
/// fetches them again. So its failure counts only when the blob is complete, and one more unpacking of the proved blob
/// has failed too.
pub(crate) async fn unpack(
    pull: &Pull,
    mut job: UnpackJob,
    descriptor: &Descriptor,
    coming: &Coming,
) -> Result<UnpackOutcome, Status> {
    coming.is_at_least(if is_tiny(descriptor) { Arrival::Complete } else { Arrival::Begun }).await;
    let began_complete = *coming.arrival.borrow() == Arrival::Complete;
    if began_complete {
        job.place = coming.place.get().cloned();
    }
    let first = in_turn(pull, job.clone(), descriptor).await;
    match first {
        Err(status) if !began_complete => {
            tracing::debug!(digest = %descriptor.digest, %status, "unpacking failed while the blob arrived; waiting for the blob");
            coming.is_complete().await;
            in_turn(pull, job, descriptor).await
        }
        other => other,
    }
}

/// Unpacks when it is this pull's turn, and no other pull is at the same layer.
async fn in_turn(pull: &Pull, mut job: UnpackJob, descriptor: &Descriptor) -> Result<UnpackOutcome, Status> {
    let (ledger, subject) = (&pull.board.ledger, Some(descriptor.digest));
    let key = job.key();
    let shows = |offset: u64| {
        pull.board.item(descriptor, |item| {
            item.unpacked = offset;
            if item.offset >= descriptor.size {
                item.set_stage(Stage::Unpacking);
            }
        });
    };
    loop {
        if let Some(other) = pull.work.unpacking.present(&key) {
            ledger.step(subject, What::UnpackTurn, follow(other, shows)).await;
        }
        let _place =
            ledger.step(subject, What::UnpackTurn, pull.work.unpacks(descriptor).take(&pull.id, pull.weight())).await;
        if let Ok(leading) = pull.work.unpacking.begin(&key) {
            job.snapshot_id = pull.work.prepared.take(&key);
            let unpacking = run_unpack(pull, job, descriptor, &leading, shows);
            let outcome = ledger.step(subject, What::Unpack, unpacking).await;
            return outcome.inspect(|outcome| ledger.unpacked(descriptor, outcome));
        }
    }
}

async fn run_unpack(
    pull: &Pull,
    job: UnpackJob,
    descriptor: &Descriptor,
    leading: &Leading,
    shows: impl Fn(u64),
) -> Result<UnpackOutcome, Status> {
    let mut handle = pull.bus.submit(job).await?;
    loop {
        match handle.next().await {
            JobUpdate::Progress(progress) => {
                shows(progress.offset);
                leading.tell(progress.offset);
            }
            JobUpdate::Done(outcome) => {
                let outcome = outcome?;
                leading.done();
                shows(descriptor.size);
                return Ok(outcome);
            }
        }
    }
}
