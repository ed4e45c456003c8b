//! The guard of a running service or worker: what keeps it running, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::nats::Nats;

/// How long [`Serving::stop`] lets running handlers finish.
const DRAIN: Duration = Duration::from_secs(10);
/// How long handlers that were told to end may take to say goodbye (hand their job back, answer their caller).
const FAREWELL: Duration = Duration::from_secs(2);

/// Keeps a handler serving for as long as it lives.
///
/// Dropping it takes no new work: running calls are finished, running jobs are handed to another worker. To end in
/// order, and know when it ended, use [`Serving::stop`].
#[must_use = "dropping it stops the service"]
#[derive(Debug)]
pub struct Serving {
    life: Life,
    nats: Option<Arc<Nats>>,
    hand_over_on_drop: bool,
}

/// What the tasks behind a [`Serving`] look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    /// Take no new work.
    pub(crate) stop: CancellationToken,
    /// Give up running work: answer "try again", hand jobs back.
    pub(crate) abort: CancellationToken,
    /// Every task of it.
    pub(crate) tasks: TaskTracker,
}

impl Serving {
    /// A service of calls.
    pub(crate) fn of_calls(life: Life, nats: Option<Arc<Nats>>) -> Self {
        Self { life, nats, hand_over_on_drop: false }
    }

    /// A worker of jobs.
    pub(crate) fn of_jobs(life: Life, nats: Option<Arc<Nats>>) -> Self {
        Self { life, nats, hand_over_on_drop: true }
    }

    /// Work of a service that is neither: `work` goes on until its token is cancelled, and may then end in order.
    pub fn of_work<F, W>(work: F) -> Self
    where
        F: FnOnce(CancellationToken) -> W,
        W: Future<Output = ()> + Send + 'static,
    {
        let life = Life::default();
        life.tasks.spawn(work(life.stop.clone()));
        Self { life, nats: None, hand_over_on_drop: false }
    }

    /// Takes no new work, lets running handlers finish for up to 10 s, hands the rest back, and returns when all is
    /// quiet.
    pub async fn stop(self) {
        self.life.stop.cancel();
        self.life.tasks.close();
        if tokio::time::timeout(DRAIN, self.life.tasks.wait()).await.is_err() {
            self.life.abort.cancel();
            if tokio::time::timeout(FAREWELL, self.life.tasks.wait()).await.is_err() {
                tracing::warn!("handlers still run after the service was told to end; they are left behind");
            }
        }
        if let Some(nats) = &self.nats {
            nats.flush().await;
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.life.stop.cancel();
        if self.hand_over_on_drop {
            self.life.abort.cancel();
        }
        self.life.tasks.close();
    }
}
