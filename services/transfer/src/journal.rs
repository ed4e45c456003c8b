//! What a pull writes into its record, in the name of the term in which this service leads.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use berth_api::pull_records::PullRecords;
use berth_model::{Code, Status};
use berth_wire::metadata as msg;

/// An end that cannot be written is tried again for so long.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub(crate) struct Journal {
    records: Arc<dyn PullRecords>,
    term: u64,
    lease_seconds: u64,
}

impl Journal {
    /// Begins a term. ABORTED: somebody leads who was heard within `silent_for`.
    pub(crate) async fn begin(
        records: Arc<dyn PullRecords>,
        lease: Duration,
        silent_for: Duration,
    ) -> Result<Self, Status> {
        let request = msg::BeginTermRequest {
            leader: format!("process {}", std::process::id()),
            silent_for_ms: u64::try_from(silent_for.as_millis()).unwrap_or(u64::MAX),
        };
        let term = records.begin_term(request).await?.term;
        Ok(Self { records, term, lease_seconds: lease.as_secs() })
    }

    /// Says that this service still leads; or, at the `end`, that it goes.
    pub(crate) async fn hold(&self, end: bool) -> Result<(), Status> {
        self.records.hold_term(msg::HoldTermRequest { term: self.term, end }).await.map(drop)
    }

    pub(crate) async fn create(&self, pull: msg::PullRecord) -> Result<msg::PullRecord, Status> {
        let (term, lease_seconds) = (self.term, self.lease_seconds);
        self.records.create_pull(msg::CreatePullRequest { term, pull: Some(pull), lease_seconds }).await
    }

    pub(crate) async fn resume(&self, id: &str) -> Result<msg::PullRecord, Status> {
        let request = msg::ResumePullRequest { term: self.term, id: id.to_owned(), lease_seconds: self.lease_seconds };
        self.records.resume_pull(request).await
    }

    /// Writes what an update gives; the term is filled in.
    pub(crate) async fn update(&self, update: msg::UpdatePullRequest) -> Result<msg::PullRecord, Status> {
        self.records.update_pull(msg::UpdatePullRequest { term: self.term, ..update }).await
    }

    /// Records an end. It is not the end before it is on disk, so this is patient.
    pub(crate) async fn end(&self, end: msg::EndPullRequest) -> Result<msg::PullRecord, Status> {
        let begun = Instant::now();
        loop {
            match self.records.end_pull(msg::EndPullRequest { term: self.term, ..end.clone() }).await {
                Err(status)
                    if matches!(status.code, Code::Unavailable | Code::DeadlineExceeded)
                        && begun.elapsed() < PATIENCE =>
                {
                    tracing::debug!(%status, "the end of a pull is not recorded yet");
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }
}

/// All records that `request` asks for, page by page.
pub(crate) async fn all(
    records: &Arc<dyn PullRecords>,
    mut request: msg::ListPullRecordsRequest,
) -> Result<Vec<msg::PullRecord>, Status> {
    let mut found = Vec::new();
    loop {
        let page = records.list_pull_records(request.clone()).await?;
        let Some(last) = page.pulls.last() else { return Ok(found) };
        request.after.clone_from(&last.id);
        found.extend(page.pulls);
        if !page.more {
            return Ok(found);
        }
    }
}
