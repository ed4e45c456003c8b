//! `berth.v1.Jobs`: dead letters, asked of the bus itself.

use berth_bus::{DeadLetter, Job as _, QueueState};
use berth_wire::gateway::{
    DeadJob, GetJobReply, GetJobRequest, ListJobsReply, ListJobsRequest, Queue, QueuesReply, QueuesRequest,
    RemoveJobReply, RemoveJobRequest, RequeueJobReply, RequeueJobRequest, Worker, jobs_server::Jobs,
};
use berth_wire::{fetcher::FetchJob, types, unpacker::UnpackJob};
use prost_reflect::{DescriptorPool, DynamicMessage};
use tonic::{Request, Response, Status};

use crate::{Backend, to_grpc};

#[tonic::async_trait]
impl Jobs for Backend {
    async fn list(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsReply>, Status> {
        let kind = request.into_inner().kind;
        let letters = self.bus.dead_letters().await.map_err(to_grpc)?;
        let jobs = letters.iter().filter(|letter| kind.is_empty() || letter.kind == kind).map(job).collect();
        Ok(Response::new(ListJobsReply { jobs }))
    }

    async fn get(&self, request: Request<GetJobRequest>) -> Result<Response<GetJobReply>, Status> {
        let id = request.into_inner().id;
        let letters = self.bus.dead_letters().await.map_err(to_grpc)?;
        let letter = letters.into_iter().find(|letter| letter.id == id);
        let letter = letter.ok_or_else(|| {
            to_grpc(berth_model::Status::not_found(format!("no dead letter {id} (see `berth jobs ls`)")))
        })?;
        // A job of another version is shown without its fields.
        let message = berth_wire::job::message_of(&letter.kind).and_then(|name| as_json(name, &letter.body));
        Ok(Response::new(GetJobReply { job: Some(job(&letter)), message: message.unwrap_or_default() }))
    }

    async fn queues(&self, _request: Request<QueuesRequest>) -> Result<Response<QueuesReply>, Status> {
        let queues = self.bus.queues(&[FetchJob::KIND, UnpackJob::KIND]).await.map_err(to_grpc)?;
        Ok(Response::new(QueuesReply { queues: queues.into_iter().map(queue).collect() }))
    }

    async fn requeue(&self, request: Request<RequeueJobRequest>) -> Result<Response<RequeueJobReply>, Status> {
        self.bus.requeue(&request.into_inner().id).await.map_err(to_grpc)?;
        Ok(Response::new(RequeueJobReply {}))
    }

    async fn remove(&self, request: Request<RemoveJobRequest>) -> Result<Response<RemoveJobReply>, Status> {
        self.bus.remove_dead_letter(&request.into_inner().id).await.map_err(to_grpc)?;
        Ok(Response::new(RemoveJobReply {}))
    }
}

fn queue(state: QueueState) -> Queue {
    let workers = state.workers.into_iter();
    let workers =
        workers.map(|worker| Worker { name: worker.name, busy: worker.busy, places: worker.places }).collect();
    Queue { kind: state.kind, waiting: state.waiting, running: state.running, workers }
}

fn job(letter: &DeadLetter) -> DeadJob {
    DeadJob {
        id: letter.id.clone(),
        kind: letter.kind.clone(),
        key: letter.key.clone(),
        code: letter.status.code.to_string(),
        reason: letter.status.message.clone(),
        attempts: letter.attempts,
        given_up_at: types::Time::from(letter.at).to_string(),
    }
}

/// A message with the names of its fields. People ask for it one at a time, so the descriptions are read anew.
fn as_json(name: &str, body: &[u8]) -> Option<String> {
    let message = DescriptorPool::decode(berth_wire::DESCRIPTORS).ok()?.get_message_by_name(name)?;
    serde_json::to_string(&DynamicMessage::decode(message, body).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use berth_wire::{Job, fetcher::FetchJob, unpacker::UnpackJob};

    use super::as_json;

    fn shown<J: Job>(job: &J) -> String {
        as_json(berth_wire::job::message_of(J::KIND).unwrap(), &job.encode_to_vec()).unwrap()
    }

    #[test]
    fn jobs_are_shown_with_the_names_of_their_fields() {
        let job = FetchJob { reference: "host/app:1".into(), ..FetchJob::default() };
        assert_eq!(shown(&job), r#"{"reference":"host/app:1"}"#);
        let job = UnpackJob { chain_id: "sha256:00".into(), ..UnpackJob::default() };
        assert_eq!(shown(&job), r#"{"chainId":"sha256:00"}"#);
    }
}
