//! Streams that have no end of their own end when the gateway does: otherwise one reader of events would keep it from stopping.

use futures::{Stream, TryStreamExt as _, stream::try_unfold};
use tonic::Status;

use crate::Backend;

/// The stream, until this gateway ends; then an error (UNAVAILABLE) says so, as the client has not had everything.
pub(crate) fn until_stopping<T: Send, S: Stream<Item = Result<T, Status>> + Send>(
    backend: &Backend,
    stream: S,
) -> impl Stream<Item = Result<T, Status>> + Send + use<T, S> {
    let stopping = backend.stopping.clone();
    try_unfold(Box::pin(stream), move |mut stream| {
        let stopping = stopping.clone();
        async move {
            match stopping.run_until_cancelled(stream.try_next()).await {
                Some(next) => Ok(next?.map(|item| (item, stream))),
                None => Err(Status::unavailable("the gateway is stopping; ask again when it is back")),
            }
        }
    })
}
