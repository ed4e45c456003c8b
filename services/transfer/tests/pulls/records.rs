//! Records of pulls in memory, with the rules of terms: a double of what metadata keeps.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use berth_api::pull_records::PullRecords;
use berth_model::Status;
use berth_wire::{
    metadata::{self as msg, pull_record::State},
    types::Time,
};

#[derive(Default)]
pub(crate) struct Records(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    term: u64,
    pulls: BTreeMap<String, msg::PullRecord>,
}

impl Kept {
    fn led_by(&mut self, term: u64) -> Result<&mut Self, Status> {
        if term == self.term { Ok(self) } else { Err(Status::aborted("another leads")) }
    }

    fn running(&mut self, id: &str) -> Result<&mut msg::PullRecord, Status> {
        let pull = self.pulls.get_mut(id).ok_or_else(|| Status::not_found("no such pull"))?;
        if pull.state() == State::Running { Ok(pull) } else { Err(Status::failed_precondition("it is over")) }
    }
}

impl Records {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    pub(crate) fn all(&self) -> Vec<msg::PullRecord> {
        self.lock().pulls.values().cloned().collect()
    }
}

#[async_trait::async_trait]
impl PullRecords for Records {
    async fn begin_term(&self, _: msg::BeginTermRequest) -> Result<msg::BeginTermReply, Status> {
        let mut kept = self.lock();
        kept.term += 1;
        Ok(msg::BeginTermReply { term: kept.term })
    }

    async fn hold_term(&self, request: msg::HoldTermRequest) -> Result<msg::HoldTermReply, Status> {
        self.lock().led_by(request.term).map(|_| msg::HoldTermReply {})
    }

    async fn create_pull(&self, request: msg::CreatePullRequest) -> Result<msg::PullRecord, Status> {
        let mut kept = self.lock();
        let mut pull = request.pull.unwrap();
        pull.created_at = Some(Time::now());
        pull.started_at = Some(Time::now());
        pull.starts = 1;
        kept.led_by(request.term)?.pulls.insert(pull.id.clone(), pull.clone());
        Ok(pull)
    }

    async fn resume_pull(&self, request: msg::ResumePullRequest) -> Result<msg::PullRecord, Status> {
        let mut kept = self.lock();
        let pull = kept.led_by(request.term)?.running(&request.id)?;
        pull.starts += 1;
        Ok(pull.clone())
    }

    async fn update_pull(&self, request: msg::UpdatePullRequest) -> Result<msg::PullRecord, Status> {
        let mut kept = self.lock();
        let pull = kept.led_by(request.term)?.running(&request.id)?;
        pull.detached |= request.detach;
        pull.priority = request.priority.unwrap_or(pull.priority);
        Ok(pull.clone())
    }

    async fn end_pull(&self, request: msg::EndPullRequest) -> Result<msg::PullRecord, Status> {
        let mut kept = self.lock();
        let pull = kept.led_by(request.term)?.running(&request.id)?;
        pull.set_state(if request.code == 0 { State::Done } else { State::Failed });
        pull.code = request.code;
        pull.message = request.message;
        pull.ended_at = Some(Time::now());
        Ok(pull.clone())
    }

    async fn get_pull_record(&self, request: msg::GetPullRecordRequest) -> Result<msg::PullRecord, Status> {
        self.lock().pulls.get(&request.id).cloned().ok_or_else(|| Status::not_found("no such pull"))
    }

    async fn list_pull_records(
        &self,
        request: msg::ListPullRecordsRequest,
    ) -> Result<msg::ListPullRecordsReply, Status> {
        let mut pulls = self.all();
        pulls.retain(|pull| !request.running || pull.state() == State::Running);
        Ok(msg::ListPullRecordsReply { pulls, more: false })
    }
}
