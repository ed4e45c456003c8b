//! One blob of a pull: fetched by a job; and, if it is a layer to unpack, unpacked by another while it arrives.

use berth_bus::{Bus, JobUpdate};
use berth_model::{Descriptor, Status};
use berth_wire::{
    fetcher::{FetchJob, FetchOutcome},
    transfer::pull_state::item::Stage,
    unpacker::{UnpackJob, UnpackOutcome},
};
use tokio::sync::watch;

use crate::board::Board;

/// How far the bytes of a blob have come, as its unpacking needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arrival {
    /// No byte yet: do not take an unpacker's place for it.
    Waiting,
    /// Some bytes are there.
    Begun,
    /// The blob is committed.
    Complete,
}

/// Fetches a blob. Done at once when the store has it. `then` is the stage it is in afterwards.
pub(crate) async fn fetch(
    bus: &Bus,
    board: &Board,
    job: FetchJob,
    descriptor: &Descriptor,
    arrival: &watch::Sender<Arrival>,
    then: Stage,
) -> Result<FetchOutcome, Status> {
    let mut handle = bus.submit(job).await?;
    loop {
        match handle.next().await {
            JobUpdate::Progress(progress) => {
                board.item(descriptor, |item| {
                    item.offset = progress.offset;
                    item.set_stage(Stage::Downloading);
                });
                if progress.offset > 0 {
                    arrival.send_if_modified(|arrival| std::mem::replace(arrival, Arrival::Begun) != Arrival::Begun);
                }
            }
            JobUpdate::Done(outcome) => {
                let outcome = outcome?;
                board.item(descriptor, |item| {
                    item.offset = descriptor.size;
                    item.fetched = outcome.fetched;
                    item.set_stage(if outcome.existed && then == Stage::Done { Stage::Exists } else { then });
                });
                arrival.send_replace(Arrival::Complete);
                return Ok(outcome);
            }
        }
    }
}

/// Unpacks a layer from the moment its bytes begin to arrive.
///
/// An unpacking that began before the blob was proved may fail because the bytes were wrong; then the fetch says so, or
/// fetches them again. So its failure counts only when the blob is complete, and one more unpacking of the proved blob
/// has failed too.
pub(crate) async fn unpack(
    bus: &Bus,
    board: &Board,
    job: UnpackJob,
    descriptor: &Descriptor,
    arrival: &watch::Sender<Arrival>,
) -> Result<UnpackOutcome, Status> {
    let mut seen = arrival.subscribe();
    let at_least = async |seen: &mut watch::Receiver<Arrival>, level: Arrival| {
        // The sender lives in our caller: it cannot be gone.
        drop(seen.wait_for(|arrival| *arrival >= level).await);
    };
    at_least(&mut seen, Arrival::Begun).await;
    let began_complete = *seen.borrow() == Arrival::Complete;
    let first = attempt(bus, board, job.clone(), descriptor).await;
    match first {
        Err(status) if !began_complete => {
            tracing::debug!(digest = %descriptor.digest, %status, "unpacking failed while the blob arrived; waiting for the blob");
            at_least(&mut seen, Arrival::Complete).await;
            attempt(bus, board, job, descriptor).await
        }
        other => other,
    }
}

async fn attempt(bus: &Bus, board: &Board, job: UnpackJob, descriptor: &Descriptor) -> Result<UnpackOutcome, Status> {
    let mut handle = bus.submit(job).await?;
    loop {
        match handle.next().await {
            JobUpdate::Progress(progress) => board.item(descriptor, |item| {
                item.unpacked = progress.offset;
                if item.offset >= descriptor.size {
                    item.set_stage(Stage::Unpacking);
                }
            }),
            JobUpdate::Done(outcome) => {
                let outcome = outcome?;
                board.item(descriptor, |item| item.unpacked = descriptor.size);
                return Ok(outcome);
            }
        }
    }
}
