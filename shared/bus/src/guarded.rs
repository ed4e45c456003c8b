//! Runs a handler in a task of its own: a panic becomes an error, and dropping the future stops the handler.
//!
//! In builds with `panic = "abort"` a panic still ends the process; the bus then treats it as a worker that died.

use std::future::Future;

use berth_model::Status;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, Span};

/// Runs `work` inside `span`; `what` names it in the error after a panic.
pub(crate) async fn guarded<T, F>(what: &str, span: Span, work: F) -> Result<T, Status>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Status>> + Send + 'static,
{
    match AbortOnDropHandle::new(tokio::spawn(work.instrument(span))).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => {
            Err(Status::internal(format!("the handler of {what} panicked; its log says where")))
        }
        Err(_stopped) => {
            Err(Status::cancelled(format!("the handler of {what} was stopped: its process is shutting down")))
        }
    }
}
