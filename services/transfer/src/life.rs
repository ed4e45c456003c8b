//! The life of one pull: waiting to be taken up again if it was interrupted, working, and ending; each step is in its record
//! before anybody is told.

use std::{sync::Arc, time::Duration};

use berth_failpoint::{Point, pass};
use berth_model::{Code, Digest, Status};
use berth_wire::{metadata as msg, types};
use tokio_util::sync::CancellationToken;

use crate::{board::Board, book::Book, journal::Journal, records::Lease, verdict::judge, wish::between};

/// How long what a failed pull fetched is kept for the next try.
const RETRY_WITHIN: Duration = Duration::from_secs(60 * 60);
/// How often the record is told how far the pull is.
const NOTE_EVERY: Duration = Duration::from_secs(5);

/// How a pull ended, still to be told to those who watch it.
#[must_use]
pub(crate) struct Ended {
    board: Arc<Board>,
    verdict: Result<Vec<Digest>, Status>,
}

impl Ended {
    pub(crate) fn tell(self) {
        match self.verdict {
            Ok(chain_ids) => self.board.done(chain_ids.iter().map(ToString::to_string).collect()),
            Err(status) => self.board.failed(&status),
        }
    }
}

/// Lives it, to the end that is recorded. `None`: another service has it, and what that one does counts.
pub(crate) async fn live(book: &Arc<Book>, id: &str, journal: &Journal, interrupted: bool) -> Option<Ended> {
    let (board, cancel) = book.pulls().get(id).map(|entry| (Arc::clone(&entry.board), entry.cancel.clone()))?;
    let verdict = work(book, id, journal, interrupted, &board, &cancel).await;
    if let Err(status) = &verdict
        && status.code == Code::Aborted
        && journal.hold(false).await.is_err_and(|status| status.code == Code::Aborted)
    {
        return None;
    }
    let mut end = msg::EndPullRequest {
        id: id.to_owned(),
        progress: Some(board.progress()),
        target: board.current_target(),
        unfilled: book.left_by(id),
        ..msg::EndPullRequest::default()
    };
    match &verdict {
        Ok(chain_ids) => end.chain_ids = chain_ids.iter().map(ToString::to_string).collect(),
        Err(status) => {
            end.code = status.code.number();
            end.message.clone_from(&status.message);
            end.keep_seconds = RETRY_WITHIN.as_secs();
        }
    }
    let judged = book.pulls().get(id).map(|entry| judge(&board.ledger.facts(), entry.wish.reference.registry()));
    if let Some(judged) = judged {
        end.verdict = Some(judged.clone());
        board.verdict(judged);
    }
    let recorded = journal.end(end).await;
    pass(Point::TransferEnded);
    let verdict = match &recorded {
        Ok(_) => verdict,
        Err(status) if status.code == Code::Aborted => return None,
        Err(status) => verdict.and_then(|_| Err(status.clone().context("the end of the pull could not be recorded"))),
    };
    if let Some(entry) = book.pulls().get_mut(id) {
        entry.ended = Some(std::time::Instant::now());
        entry.wish.access = berth_wire::fetcher::Access::default();
        if let Ok(record) = recorded {
            entry.record = record;
        }
    }
    match &verdict {
        Ok(_) => tracing::info!("pulled"),
        Err(status) => tracing::info!(code = %status.code, error = %status, "the pull failed"),
    }
    Some(Ended { board, verdict })
}

async fn work(
    book: &Arc<Book>,
    id: &str,
    journal: &Journal,
    interrupted: bool,
    board: &Board,
    cancel: &CancellationToken,
) -> Result<Vec<Digest>, Status> {
    if interrupted {
        tokio::select! {
            roused = somebody(book, id) => roused?,
            () = cancel.cancelled() => return Err(cancelled()),
        }
        let record = journal.resume(id).await?;
        tracing::info!(starts = record.starts, "the pull goes on");
        if let Some(entry) = book.pulls().get_mut(id) {
            entry.record = record;
        }
    }
    let pull = book.pull(id)?;
    let (namespace, lease) = match book.pulls().get(id) {
        Some(entry) => (entry.record.namespace.clone(), entry.record.lease.clone()),
        None => return Err(crate::book::unknown(id)),
    };
    let lease = Lease { metadata: Arc::clone(&pull.metadata), namespace, id: lease };
    tokio::select! {
        done = pull.run(&lease) => done,
        () = cancel.cancelled() => Err(cancelled()),
        () = abandoned(book, id) => {
            Err(Status::cancelled("nobody watched the pull any more; it was cancelled, what was fetched is kept for a while"))
        }
        late = deadline(book, id, board) => Err(late),
        () = keep_note(book, id, journal, board, &lease) => Err(Status::internal("notes of a pull ended")),
    }
}

fn cancelled() -> Status {
    Status::cancelled("the pull was cancelled; what was fetched is kept for the next try")
}

/// Waits until somebody comes back who waits for an interrupted pull. Where pulls are not taken up by themselves (a single
/// command), it waits for as long as the command takes.
async fn somebody(book: &Arc<Book>, id: &str) -> Result<(), Status> {
    let Some((mut roused, lacks, late)) = book.pulls().get(id).map(|entry| {
        let left = entry.left_until_deadline();
        (entry.roused.subscribe(), entry.lacks_credentials, left)
    }) else {
        return Err(crate::book::unknown(id));
    };
    let come = async { drop(roused.wait_for(|roused| *roused).await) };
    if !book.config.take_up {
        come.await;
        return Ok(());
    }
    let grace = book.config.abandoned_after;
    let wait = late.map_or(grace, |late| late.min(grace));
    if tokio::time::timeout(wait, come).await.is_ok() {
        return Ok(());
    }
    Err(if late.is_some_and(|late| late <= grace) {
        Status::deadline_exceeded("the pull did not end in the time it had: it was interrupted by a restart")
    } else if lacks {
        Status::unauthenticated(format!(
            "the pull was interrupted by a restart, and nobody gave its credentials again within {} s: they are never \
             stored; pull again, with --user",
            grace.as_secs()
        ))
    } else {
        Status::cancelled(format!(
            "the pull was interrupted by a restart, and nobody who waits for it came back within {} s",
            grace.as_secs()
        ))
    })
}

/// Ends when nobody who waits was heard for so long.
async fn abandoned(book: &Arc<Book>, id: &str) {
    let after = book.config.abandoned_after;
    loop {
        let idle = match book.pulls().get(id) {
            Some(entry) => entry.unheard_for().unwrap_or_default(),
            None => return,
        };
        let Some(left) = after.checked_sub(idle).filter(|left| !left.is_zero()) else {
            return;
        };
        tokio::time::sleep(left).await;
    }
}

/// Ends when the pull's time is up, with words for that.
async fn deadline(book: &Arc<Book>, id: &str, board: &Board) -> Status {
    let found = book.pulls().get(id).map(|entry| (entry.left_until_deadline(), entry.record.clone()));
    let Some((Some(left), record)) = found else { return std::future::pending().await };
    tokio::time::sleep(left).await;
    let had = between(record.created_at.unwrap_or_default(), record.deadline.unwrap_or_default());
    Status::deadline_exceeded(format!(
        "the pull did not end in the {} it had: {}; what was fetched is kept for the next try",
        seconds(had),
        board.stage()
    ))
}

fn seconds(time: Duration) -> String {
    format!("{} s", (time.as_secs_f64() * 10.0).round() / 10.0)
}

/// Writes down now and then how far the pull is, and keeps its lease.
async fn keep_note(book: &Arc<Book>, id: &str, journal: &Journal, board: &Board, lease: &Lease) {
    let mut noted = None;
    let lasts = book.config.lease;
    let mut renewed = types::Time::now();
    loop {
        tokio::time::sleep(NOTE_EVERY).await;
        let progress = board.progress();
        if noted.as_ref() != Some(&progress) {
            let update = msg::UpdatePullRequest { id: id.to_owned(), progress: Some(progress), ..Default::default() };
            match journal.update(update).await {
                Ok(_record) => noted = Some(progress),
                Err(status) => tracing::debug!(%status, "how far the pull is could not be noted"),
            }
        }
        if between(renewed, types::Time::now()) > lasts / 4 {
            lease.renew(lasts).await;
            renewed = types::Time::now();
        }
    }
}
