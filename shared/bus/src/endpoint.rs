//! One served subject: admits a request, runs the handler, and answers, whatever happens.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use berth_model::{Code, Status};
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, Place};
use crate::caller;
use crate::frame::{self, Reply};
use crate::guarded::guarded;
use crate::serving::Life;
use crate::trace::{self, Headers};

/// A handler below the types: encoded request to encoded reply.
pub(crate) type CallHandler = Arc<dyn Fn(Bytes) -> BoxFuture<'static, Result<Bytes, Status>> + Send + Sync>;

/// How much longer than its caller waits a handler may run: the work it does is not lost (a repeated call finds it
/// done), but a handler that hangs does not hold its place for ever.
const GRACE: Duration = Duration::from_secs(60);

/// A request as it arrived.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) body: Bytes,
    pub(crate) headers: Headers,
    /// How long its caller waits.
    pub(crate) limit: Duration,
    /// Cancelled when nobody waits any more.
    pub(crate) gone: CancellationToken,
}

/// A handler and its bounds.
pub(crate) struct Endpoint {
    subject: &'static str,
    handler: CallHandler,
    admission: Admission,
    max_payload: usize,
    life: Life,
}

impl Endpoint {
    pub(crate) fn new(subject: &'static str, handler: CallHandler, max_payload: usize, life: Life) -> Self {
        Self { subject, handler, admission: Admission::new(), max_payload, life }
    }

    /// Takes a request in and hands the reply to `answer`, which is always called. Never waits for the handler.
    pub(crate) async fn accept<A, F>(self: &Arc<Self>, request: Request, answer: A)
    where
        A: FnOnce(Reply) -> F + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        match self.admission.enter() {
            None => answer(Reply::Again(format!("too many requests wait for {} already", self.subject))).await,
            Some(place) => {
                let this = Arc::clone(self);
                self.life.tasks.spawn(async move { answer(this.reply(place, request).await).await });
            }
        }
    }

    async fn reply(&self, place: Place, request: Request) -> Reply {
        let deadline = Instant::now() + request.limit;
        let admitted = tokio::select! {
            biased;
            () = self.life.stop.cancelled() => return Reply::Again("this replica is stopping".to_owned()),
            admitted = tokio::time::timeout_at(deadline, place.begin()) => admitted,
        };
        let Ok(Some(admitted)) = admitted else {
            return Reply::Failed(Status::deadline_exceeded(format!(
                "{} was too busy to begin within {:?}",
                self.subject, request.limit
            )));
        };
        let span = trace::serving(self.subject, &request.headers);
        let (gone, only_asks) = (request.gone.clone(), self.only_asks());
        let handler = Arc::clone(&self.handler);
        let work = guarded(
            self.subject,
            span.clone(),
            caller::known(request.gone, async move { handler(request.body).await }),
        );
        let result = tokio::select! {
            result = admitted.run(work) => result,
            // A question nobody waits for any more would only hold its place, and the end of the service, for as long as it polls.
            () = gone.cancelled(), if only_asks => return Reply::Again("its caller left".to_owned()),
            // Nothing is lost with it, and another replica, or the next one here, has the news as well.
            () = self.life.stop.cancelled(), if only_asks => return Reply::Again("this replica is stopping".to_owned()),
            () = self.life.abort.cancelled() => return Reply::Again("this replica stopped".to_owned()),
            () = tokio::time::sleep_until(deadline + GRACE) => Err(Status::deadline_exceeded(format!("the handler of {} ran out of time", self.subject))),
        };
        match result.and_then(|body| self.fits(body)) {
            Ok(body) => Reply::Done(body),
            Err(status) => {
                span.record("code", tracing::field::display(status.code));
                tracing::debug!(parent: &span, %status, "call failed");
                Reply::Failed(status)
            }
        }
    }

    /// Long polls and pages: they change nothing, so they may end anywhere.
    fn only_asks(&self) -> bool {
        let method = self.subject.rsplit('.').next().unwrap_or(self.subject);
        method.starts_with("Watch") || method.starts_with("Read")
    }

    fn fits(&self, body: Bytes) -> Result<Bytes, Status> {
        frame::check_size(
            body.len(),
            self.max_payload,
            Code::ResourceExhausted,
            &format!("the reply of {}", self.subject),
        )?;
        Ok(body)
    }
}
