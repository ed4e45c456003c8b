//! How a process is told to end: SIGTERM or SIGINT asks it to, and a second one ends it at once.
//!
//! The signals are listened to from the start. As the first process of a container a program gets only the signals that
//! it listens to: without this, one that waits for its NATS server could not be stopped.

use berth_model::Status;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Whether somebody wants the process to end.
#[derive(Clone, Debug)]
pub(crate) struct Stop(CancellationToken);

impl Stop {
    /// Ends when somebody does.
    pub(crate) fn asked(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.clone().cancelled_owned()
    }
}

/// Listens to the signals.
pub(crate) fn listen() -> Result<Stop, Status> {
    let failed = |error: std::io::Error| Status::internal(format!("signals cannot be listened to: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let token = CancellationToken::new();
    let stop = Stop(token.clone());
    tokio::spawn(async move {
        for told_before in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if told_before {
                tracing::warn!("told to stop a second time; ending at once");
                std::process::exit(130);
            }
            token.cancel();
        }
    });
    Ok(stop)
}
