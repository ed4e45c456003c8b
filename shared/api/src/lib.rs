//! The contracts: for each service a trait, its remote home (a client over the bus) and its router (what serves a trait
//! on the bus). Services meet here and never import one another.
//!
//! What a method means, and its codes, stands in the `.proto` file of the service. Every handler is idempotent.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod contract;

pub mod buffers;
pub mod content;
pub mod direct;
pub mod early_flush;
pub mod fetcher;
pub mod gc;
pub mod holding;
pub mod measure;
pub mod metadata;
pub mod owner;
pub mod pull_records;
pub mod transfer;
pub mod unpacker;

/// Work that is lost when it is dropped, on a thread of its own; a panic in it becomes an error.
pub async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, berth_model::Status> + Send + 'static,
) -> Result<R, berth_model::Status> {
    Blocking::begin(work).end().await
}

/// Such work, begun before anybody waits for it.
pub struct Blocking<R>(tokio::task::JoinHandle<Result<R, berth_model::Status>>);

impl<R: Send + 'static> Blocking<R> {
    /// Begins.
    pub fn begin(work: impl FnOnce() -> Result<R, berth_model::Status> + Send + 'static) -> Self {
        let span = tracing::Span::current();
        Self(tokio::task::spawn_blocking(move || span.in_scope(work)))
    }

    /// Waits for its end, once; who stops waiting may wait again.
    pub async fn end(&mut self) -> Result<R, berth_model::Status> {
        match (&mut self.0).await {
            Ok(done) => done,
            Err(error) => Err(berth_model::Status::internal(format!("a worker thread failed: {error}"))),
        }
    }
}
