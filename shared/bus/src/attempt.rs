//! One attempt at a job: runs the handler in a span, and after a cancellation only for a short while longer.

use std::time::Duration;

use berth_model::{Code, Status};
use bytes::Bytes;

use crate::frame;
use crate::guarded::guarded;
use crate::job::{JobHandler, Run};
use crate::trace::{self, Headers};

/// How long a handler may take to end after its job was cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// A job as a worker received it.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) body: Bytes,
    pub(crate) headers: Headers,
    /// What an outcome may take.
    pub(crate) max_payload: usize,
}

/// Runs `handler` on `work` once. Dropping the future stops the handler.
pub(crate) async fn attempt(handler: &JobHandler, work: Work, run: Run) -> Result<Bytes, Status> {
    let Work { kind, id, body, headers, max_payload } = work;
    if run.cancel.is_cancelled() {
        return Err(Status::cancelled(format!("the `{kind}` job was cancelled before it began")));
    }
    let span = trace::attempting(kind, &id, run.attempt, &headers);
    let cancel = run.cancel.clone();
    let handler = handler.clone();
    let running = guarded(kind, span.clone(), async move { handler(body, run).await });
    let too_slow = async {
        cancel.cancelled().await;
        tokio::time::sleep(CANCEL_GRACE).await;
    };
    let result = tokio::select! {
        result = running => result,
        () = too_slow => Err(Status::cancelled(format!("the `{kind}` job was cancelled"))),
    };
    let result = result.and_then(|outcome| {
        frame::check_size(
            outcome.len(),
            max_payload,
            Code::ResourceExhausted,
            &format!("the outcome of the `{kind}` job"),
        )?;
        Ok(outcome)
    });
    if let Err(status) = &result {
        span.record("code", tracing::field::display(status.code));
        tracing::debug!(parent: &span, %status, "attempt failed");
    }
    result
}
