//! What a handler can know of its caller: whether somebody still waits for the answer.
//!
//! A handler is not stopped when its caller leaves, because work that was half done may be worth finishing. One whose
//! work is long and of no use to anybody else asks here, and ends by itself.

use std::future::Future;

use tokio_util::sync::CancellationToken;

tokio::task_local! {
    static GONE: CancellationToken;
}

/// Cancelled when the caller of the call that is being handled left, or waited for as long as it wanted to. Outside of a
/// handler nobody ever leaves.
#[must_use]
pub fn caller_gone() -> CancellationToken {
    GONE.try_with(CancellationToken::clone).unwrap_or_default()
}

/// Runs a handler that may ask.
pub(crate) fn known<F: Future>(gone: CancellationToken, handler: F) -> impl Future<Output = F::Output> {
    GONE.scope(gone, handler)
}
