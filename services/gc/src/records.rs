//! The records: a mark, and the sweep that follows it, both done by metadata.

use std::time::{Duration, Instant};

use berth_api::measure;
use berth_model::{Code, Status};
use berth_wire::{
    gc::{Item, Summary, item::Outcome},
    metadata::{EndMarkRequest, Garbage, ListGarbageRequest, MarkRequest, SweepRequest},
    types::Measure,
};

use crate::{
    collect::{Collection, Mark},
    watching::Watching,
};

/// Another collector may have died in the middle of its round: that is seen after a few seconds, or, of one whose machine is
/// gone without a word, after two minutes of silence.
const PATIENCE: Duration = Duration::from_secs(150);
const TRY_EVERY: Duration = Duration::from_secs(2);
/// So often a sweep is begun anew because too much was written since the mark.
const MARKS: usize = 5;

/// Marks; waits for another collector's round to end.
pub(crate) async fn mark(run: &Collection<'_>) -> Result<Mark, Status> {
    let begun = Instant::now();
    loop {
        match run.backend.metadata.mark(MarkRequest { watched: true }).await {
            Ok(marked) => {
                run.report.count(|summary| {
                    summary.records = marked.records;
                    summary.references = marked.references;
                });
                let watching = Watching::begin(&run.backend.metadata, &marked.mark_id);
                return Ok(Mark { id: marked.mark_id, owner: marked.store_id, _watching: watching });
            }
            Err(status) if status.code == Code::Unavailable && begun.elapsed() < PATIENCE => {
                tracing::debug!(%status, "trying again");
                tokio::time::sleep(TRY_EVERY).await;
            }
            Err(status) => return Err(status),
        }
    }
}

/// Says what a sweep would delete.
pub(crate) async fn list(run: &Collection<'_>, mark: &Mark) -> Result<(), Status> {
    let mut first = 0;
    loop {
        let request = ListGarbageRequest { mark_id: mark.id.clone(), first, ..ListGarbageRequest::default() };
        let page = run.backend.metadata.list_garbage(request).await?;
        first += u64::try_from(page.garbage.len()).unwrap_or(u64::MAX);
        told(run, page.garbage);
        if !page.more {
            return Ok(());
        }
    }
}

/// Deletes what is still unreferenced. The mark is another one in the end, if one did not last.
pub(crate) async fn sweep(run: &Collection<'_>, mark: &mut Mark) -> Result<(), Status> {
    for _ in 0..MARKS {
        match sweep_by(run, &mark.id).await {
            // Too much was written for the notes: what they lost may be in use, so another mark must tell.
            Err(status) if status.code == Code::Aborted => {
                tracing::debug!(%status, "marking again");
                let ended = EndMarkRequest { mark_id: mark.id.clone() };
                run.backend.metadata.end_mark(ended).await?;
                *mark = self::mark(run).await?;
            }
            done => return done,
        }
    }
    Err(Status::unavailable(format!("the records changed too fast for a collection, {MARKS} times")))
}

async fn sweep_by(run: &Collection<'_>, mark_id: &str) -> Result<(), Status> {
    loop {
        let request = SweepRequest { mark_id: mark_id.to_owned(), ..SweepRequest::default() };
        let swept = run.backend.metadata.sweep(request).await?;
        run.report.count(|summary| {
            summary.kept += swept.kept;
            summary.leases += swept.ended_leases;
        });
        told(run, swept.removed);
        if swept.done {
            return Ok(());
        }
    }
}

fn told(run: &Collection<'_>, garbage: Vec<Garbage>) {
    let outcome: Outcome = run.outcome();
    run.report.count(|summary| garbage.iter().for_each(|one| count(summary, one, run.dry_run)));
    run.report.add(garbage.into_iter().map(|one| Item {
        outcome: outcome.into(),
        namespace: one.namespace,
        r#type: one.r#type,
        id: one.id,
        size: one.size,
        note: String::new(),
    }));
}

fn count(summary: &mut Summary, garbage: &Garbage, dry_run: bool) {
    match garbage.r#type.as_str() {
        "images" => summary.images += 1,
        "content" => summary.contents += 1,
        _ => {
            summary.snapshots += 1;
            // Its directory is an orphan only when the record is gone.
            if dry_run {
                let one = Measure { count: 1, size: garbage.size, disk: garbage.size };
                measure::add(summary.directories.get_or_insert_default(), &one);
            }
        }
    }
}
