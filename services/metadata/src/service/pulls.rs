//! Calls about the records of pulls.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use berth_api::pull_records::PullRecords;
use berth_model::Status;
use berth_wire::metadata as msg;

use super::Service;
use crate::{
    check,
    page::Page,
    pulls,
    tables::{meta, pull},
};

/// Longest reference, message or id of a record.
const MAX_MESSAGE_BYTES: usize = 4096;

/// When the leading transfer service was last heard. Not stored: after a start of this service it has its time anew.
pub(super) struct Leader(Mutex<Option<Instant>>);

impl Default for Leader {
    fn default() -> Self {
        Self(Mutex::new(Some(Instant::now())))
    }
}

impl Leader {
    fn heard(&self, at: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn was_heard_within(&self, silence: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|heard| heard.elapsed() < silence)
    }
}

#[async_trait]
impl PullRecords for Service {
    async fn begin_term(&self, request: msg::BeginTermRequest) -> Result<msg::BeginTermReply, Status> {
        if self.leader.was_heard_within(Duration::from_millis(request.silent_for_ms)) {
            return Err(Status::aborted("another transfer service leads"));
        }
        let term = self.store.tidy(pulls::begin_term).await?;
        self.leader.heard(Some(Instant::now()));
        tracing::debug!(leader = request.leader, term, "a transfer service leads");
        Ok(msg::BeginTermReply { term })
    }

    async fn hold_term(&self, request: msg::HoldTermRequest) -> Result<msg::HoldTermReply, Status> {
        let present = self.store.read(|view| meta::transfer_term(view)).await?;
        if present != request.term {
            return Err(Status::aborted(format!("another transfer service leads since, in term {present}")));
        }
        self.leader.heard((!request.end).then(Instant::now));
        Ok(msg::HoldTermReply {})
    }

    async fn create_pull(&self, request: msg::CreatePullRequest) -> Result<msg::PullRecord, Status> {
        let pull = request.pull.ok_or_else(|| Status::invalid_argument("pull is missing in the request"))?;
        check::namespace(&pull.namespace)?;
        check::name("the pull's reference", &pull.reference)?;
        check::snapshotter(&pull.snapshotter)?;
        check::labels(&pull.labels)?;
        check::name("the pull's id", &pull.id)?;
        let (term, seconds) = (request.term, request.lease_seconds);
        self.store
            .change(move |change| {
                pulls::must_lead(change, term)?;
                pulls::create(change, pull, seconds)
            })
            .await
    }

    async fn resume_pull(&self, request: msg::ResumePullRequest) -> Result<msg::PullRecord, Status> {
        self.store
            .change(move |change| {
                pulls::must_lead(change, request.term)?;
                pulls::resume(change, &request.id, request.lease_seconds)
            })
            .await
    }

    async fn update_pull(&self, request: msg::UpdatePullRequest) -> Result<msg::PullRecord, Status> {
        // How far it is, is looked at again after any crash; what it is must be known.
        let relaxed = request.target.is_none() && !request.detach && request.priority.is_none();
        let rule = move |change: &mut crate::change::Change<'_, '_>| {
            pulls::must_lead(change, request.term)?;
            pulls::update(change, request)
        };
        if relaxed { self.store.note(rule).await } else { self.store.tidy(rule).await }
    }

    async fn end_pull(&self, mut request: msg::EndPullRequest) -> Result<msg::PullRecord, Status> {
        if request.message.len() > MAX_MESSAGE_BYTES {
            let end = request.message.floor_char_boundary(MAX_MESSAGE_BYTES);
            request.message.truncate(end);
        }
        let keep = self.store.keep_pulls();
        self.store
            .change(move |change| {
                pulls::must_lead(change, request.term)?;
                pulls::end(change, request, keep)
            })
            .await
    }

    async fn get_pull_record(&self, request: msg::GetPullRecordRequest) -> Result<msg::PullRecord, Status> {
        self.store.read(move |view| pulls::get(view, &request.id)).await
    }

    async fn list_pull_records(
        &self,
        request: msg::ListPullRecordsRequest,
    ) -> Result<msg::ListPullRecordsReply, Status> {
        if !request.namespace.is_empty() {
            check::namespace(&request.namespace)?;
        }
        let wanted = move |pull: &msg::PullRecord| {
            (request.namespace.is_empty() || pull.namespace == request.namespace)
                && (!request.running || pull.state() == msg::pull_record::State::Running)
        };
        let (pulls, more) = self
            .store
            .read(move |view| {
                let mut page = Page::new(request.limit);
                pull::fill(view, &request.after, &mut page, wanted)?;
                Ok(page.finish())
            })
            .await?;
        Ok(msg::ListPullRecordsReply { pulls, more })
    }
}
