//! [`Bus`]: the verbs with their types on; below it, the two homes see bytes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use berth_model::{Code, Status};
use berth_wire::{Call, Job};
use futures::FutureExt;
use prost::Message;
use tracing::Instrument;

use crate::dead::DeadLetter;
use crate::endpoint::CallHandler;
use crate::event::{BusEvent, EventStream};
use crate::job::{JobContext, JobHandle, JobHandler};
use crate::local::Local;
use crate::nats::Nats;
use crate::options::{DEFAULT_REQUEST_TIMEOUT, DEFAULT_WAIT, NatsOptions};
use crate::queue::QueueState;
use crate::serving::Serving;
use crate::{frame, subject, trace};

/// The bus. Cheap to clone; all clones are one bus.
#[derive(Clone, Debug)]
pub struct Bus {
    home: Home,
    request_timeout: Duration,
}

#[derive(Clone, Debug)]
enum Home {
    Local(Arc<Local>),
    Nats(Arc<Nats>),
}

impl Bus {
    /// A bus of its own inside this process; two of them know nothing of each other.
    #[must_use]
    pub fn in_process() -> Bus {
        Self::in_process_waiting(DEFAULT_WAIT)
    }

    /// Like [`Bus::in_process`], with another bound on the wait for a service or a worker to appear.
    #[must_use]
    pub fn in_process_waiting(wait: Duration) -> Bus {
        Bus { home: Home::Local(Arc::new(Local::new(wait))), request_timeout: DEFAULT_REQUEST_TIMEOUT }
    }

    /// Connects to NATS, waiting for the server as long as the options say. Later the connection heals itself.
    pub async fn connect(options: NatsOptions) -> Result<Bus, Status> {
        let request_timeout = options.request_timeout;
        Ok(Bus { home: Home::Nats(Nats::connect(options).boxed().await?), request_timeout })
    }

    /// Whether messages leave this process.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self.home, Home::Nats(_))
    }

    /// Whether messages can be sent now; one that cannot reach its server goes on trying.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        match &self.home {
            Home::Local(_) => true,
            Home::Nats(nats) => nats.is_connected(),
        }
    }

    /// Sends a request and waits for its reply, for as long as the bus's request timeout says (30 s by default).
    pub async fn call<C: Call>(&self, request: C) -> Result<C::Reply, Status> {
        self.call_within(request, self.request_timeout).await
    }

    /// Sends a request and waits at most `limit` for its reply.
    ///
    /// While nobody serves the subject it waits for somebody to. Errors of the bus itself are `Unavailable` (nobody
    /// serves it), `DeadlineExceeded`, `InvalidArgument` (too large) and `PermissionDenied` (by the NATS server).
    pub async fn call_within<C: Call>(&self, request: C, limit: Duration) -> Result<C::Reply, Status> {
        let span = trace::calling(C::SUBJECT, self.is_remote());
        let headers = trace::outgoing(&span);
        let body = frame::encode(&request, self.max_payload(), Code::InvalidArgument, C::SUBJECT)?;
        let answer = match &self.home {
            Home::Local(local) => local.call(C::SUBJECT, body, headers, limit).boxed(),
            Home::Nats(nats) => nats.call(C::SUBJECT, body, headers, limit).boxed(),
        };
        let reply = answer
            .instrument(span.clone())
            .await
            .and_then(|body| frame::decode(body, &format!("the reply of {}", C::SUBJECT)));
        if let Err(status) = &reply {
            span.record("code", tracing::field::display(status.code));
        }
        reply
    }

    /// Serves a call until the guard is dropped. Other replicas, here or elsewhere, share the calls.
    ///
    /// At most 256 requests are in flight at a time, not counting long polls (see `admission.rs`); others wait their turn.
    pub async fn serve<C, F, Fut>(&self, handler: F) -> Result<Serving, Status>
    where
        C: Call,
        F: Fn(C) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<C::Reply, Status>> + Send + 'static,
    {
        subject::check_subject(C::SUBJECT)?;
        let handler = Arc::new(handler);
        let handler: CallHandler = Arc::new(move |body| {
            let handler = Arc::clone(&handler);
            async move {
                let request = frame::decode::<C>(body, C::SUBJECT)?;
                Ok(handler(request).await?.encode_to_vec().into())
            }
            .boxed()
        });
        match &self.home {
            Home::Local(local) => Ok(local.serve(C::SUBJECT, handler)),
            Home::Nats(nats) => nats.serve(C::SUBJECT, handler).await,
        }
    }

    /// Hands a job to the workers of its kind; returns when it is stored.
    ///
    /// The queue is bounded: `ResourceExhausted` when it is full. Without any worker of the kind the job ends as
    /// `Unavailable` after a while; while workers are merely busy it waits without limit.
    pub async fn submit<J: Job>(&self, job: J) -> Result<JobHandle<J>, Status> {
        subject::check_subject(J::KIND)?;
        let span = trace::submitting(J::KIND, self.is_remote());
        let mut headers = trace::outgoing_job(&span);
        if job.is_small() {
            headers.push((frame::JOB_SMALL.to_owned(), "1".to_owned()));
        }
        let body = frame::encode(&job, self.max_payload(), Code::InvalidArgument, &format!("the `{}` job", J::KIND))?;
        let raw = match &self.home {
            Home::Local(local) => local.submit(J::KIND, job.key(), body, headers)?,
            Home::Nats(nats) => nats.submit(J::KIND, job.key(), body, headers).instrument(span).boxed().await?,
        };
        Ok(JobHandle::new(raw))
    }

    /// Works on jobs of a kind, at most `concurrency` at a time, until the guard is dropped. Over NATS of small jobs
    /// ([`Job::is_small`]) up to eight are taken in the place of another, since each comes by a message of its own.
    ///
    /// What the handler returns is the verdict: `Ok` is done; an error whose code is passing is retried, by any worker,
    /// with growing pauses and at most five times; any other error rejects the job.
    pub async fn work<J, F, Fut>(&self, concurrency: usize, handler: F) -> Result<Serving, Status>
    where
        J: Job,
        F: Fn(J, JobContext<J>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<J::Outcome, Status>> + Send + 'static,
    {
        subject::check_subject(J::KIND)?;
        if concurrency == 0 {
            return Err(Status::invalid_argument(format!(
                "a worker of `{}` jobs needs a concurrency of at least 1",
                J::KIND
            )));
        }
        let handler = Arc::new(handler);
        let handler: JobHandler = Arc::new(move |body, run| {
            let handler = Arc::clone(&handler);
            async move {
                let job = frame::decode::<J>(body, &format!("the `{}` job", J::KIND))?;
                Ok(handler(job, JobContext::new(run)).await?.encode_to_vec().into())
            }
            .boxed()
        });
        match &self.home {
            Home::Local(local) => Ok(local.work(J::KIND, concurrency, handler)),
            Home::Nats(nats) => nats.work(J::KIND, concurrency, handler).boxed().await,
        }
    }

    /// Jobs that workers gave up on (see [`DeadLetter`]), the oldest first; at most about a thousand are kept.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>, Status> {
        match &self.home {
            Home::Local(local) => Ok(local.dead_letters()),
            Home::Nats(nats) => nats.dead_letters().boxed().await,
        }
    }

    /// How the queues of these kinds stand, and who works on them.
    pub async fn queues(&self, kinds: &[&'static str]) -> Result<Vec<QueueState>, Status> {
        match &self.home {
            Home::Local(local) => Ok(local.queues(kinds)),
            Home::Nats(nats) => nats.queues(kinds).boxed().await,
        }
    }

    /// How many events each reader at the NATS server has not had yet; empty in one process, where there is none.
    pub async fn event_lags(&self) -> Result<Vec<(String, u64)>, Status> {
        match &self.home {
            Home::Local(_) => Ok(Vec::new()),
            Home::Nats(nats) => nats.event_lags().boxed().await,
        }
    }

    /// Puts a dead letter back into its queue, as a new job that nobody waits for: its work is done for those who come
    /// later. `NotFound` when there is none by that id; `ResourceExhausted` when the queue is full.
    pub async fn requeue(&self, id: &str) -> Result<(), Status> {
        match &self.home {
            Home::Local(local) => local.requeue(id),
            Home::Nats(nats) => nats.requeue(id).boxed().await,
        }
    }

    /// Drops a dead letter. `NotFound` when there is none by that id.
    pub async fn remove_dead_letter(&self, id: &str) -> Result<(), Status> {
        match &self.home {
            Home::Local(local) => local.remove_dead(id),
            Home::Nats(nats) => nats.remove_dead(id).boxed().await,
        }
    }

    /// Publishes an event; returns when it is stored (NATS) or handed to every subscriber's buffer (in-process).
    pub async fn publish(&self, event: BusEvent) -> Result<(), Status> {
        subject::check_subject(&event.subject)?;
        frame::check_size(
            event.body.len(),
            self.max_payload(),
            Code::InvalidArgument,
            &format!("the event {}", event.subject),
        )?;
        match &self.home {
            Home::Local(local) => local.publish(event),
            Home::Nats(nats) => nats.publish(event, self.request_timeout).boxed().await?,
        }
        Ok(())
    }

    /// Events published from now on whose subject matches `filter` (`*` is any one part, a final `>` the rest).
    pub async fn subscribe(&self, filter: &str) -> Result<EventStream, Status> {
        subject::check_filter(filter)?;
        match &self.home {
            Home::Local(local) => Ok(local.subscribe(filter)),
            Home::Nats(nats) => nats.subscribe(filter).boxed().await,
        }
    }

    fn max_payload(&self) -> usize {
        match &self.home {
            Home::Local(_) => frame::LOCAL_MAX_PAYLOAD,
            Home::Nats(nats) => nats.max_payload(),
        }
    }
}
