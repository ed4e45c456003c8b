//! Where a submitter hears of its jobs: one subscription for each kind, whatever the number of jobs, and for each job the
//! latest of what was said.
//!
//! A subscription of its own for each job would cost the server more than the job's messages do: each one that comes or goes
//! makes it forget which subjects lead where. Who submits jobs of a kind is few (the transfer service that leads, a
//! collection's repairs), so hearing of another's jobs now and then costs less.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_model::Status;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Nats;
use super::signal::Signal;

/// What is known of a job. Nothing queues up: reports that were not looked at give way to later ones.
#[derive(Clone, Debug)]
pub(super) struct News {
    /// When something was heard last.
    pub(super) heard: Instant,
    pub(super) progress: Option<Bytes>,
    pub(super) verdict: Option<Result<Bytes, Status>>,
}

/// Jobs that are waited for, by id; nothing when nobody listens any more.
type Waiting = Arc<Mutex<Option<HashMap<String, watch::Sender<News>>>>>;

/// Who listens for jobs of which kind.
#[derive(Debug)]
pub(super) struct Replies {
    kinds: tokio::sync::Mutex<HashMap<&'static str, Waiting>>,
    closed: CancellationToken,
    _open: DropGuard,
}

impl Default for Replies {
    fn default() -> Self {
        let closed = CancellationToken::new();
        Self { kinds: tokio::sync::Mutex::default(), closed: closed.clone(), _open: closed.drop_guard() }
    }
}

/// The news of one job; nobody listens for it any more when this is dropped.
pub(super) struct Replying {
    pub(super) news: watch::Receiver<News>,
    id: String,
    waiting: Waiting,
}

impl Drop for Replying {
    fn drop(&mut self) {
        if let Some(waiting) = lock(&self.waiting).as_mut() {
            waiting.remove(&self.id);
        }
    }
}

impl Nats {
    /// Listens for a job, from before it is submitted: no signal of it is missed.
    pub(super) async fn replying(&self, kind: &'static str, id: &str) -> Result<Replying, async_nats::SubscribeError> {
        let mut kinds = self.replies.kinds.lock().await;
        let (sender, news) = watch::channel(News { heard: Instant::now(), progress: None, verdict: None });
        if let Some(present) = kinds.get(kind)
            && let Some(waiting) = lock(present).as_mut()
        {
            waiting.insert(id.to_owned(), sender);
            return Ok(Replying { news, id: id.to_owned(), waiting: Arc::clone(present) });
        }
        let mut signals = self.link.client.subscribe(self.names.job_reply(kind, "*")).await?;
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::from([(id.to_owned(), sender)]))));
        kinds.insert(kind, Arc::clone(&waiting));
        let (heard, closed) = (Arc::clone(&waiting), self.replies.closed.clone());
        tokio::spawn(async move {
            while let Some(Some(message)) = closed.run_until_cancelled(signals.next()).await {
                let id = message.subject.rsplit('.').next().unwrap_or_default();
                let job = lock(&heard).as_ref().and_then(|jobs| jobs.get(id).cloned());
                if let Some(job) = job {
                    tell(&job, Signal::read(message));
                }
            }
            // Whoever waits learns by the end of its channel that nothing more will come.
            *lock(&heard) = None;
        });
        Ok(Replying { news, id: id.to_owned(), waiting })
    }
}

fn tell(job: &watch::Sender<News>, signal: Signal) {
    job.send_modify(|news| {
        news.heard = Instant::now();
        match signal {
            Signal::Alive => {}
            Signal::Progress(progress) => news.progress = Some(progress),
            Signal::Verdict(verdict) => news.verdict = Some(verdict),
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_with_the_last_report_however_late_one_looks() {
        let (job, mut news) = watch::channel(News { heard: Instant::now(), progress: None, verdict: None });
        for step in [&b"1"[..], b"2"] {
            tell(&job, Signal::Progress(Bytes::from_static(step)));
        }
        tell(&job, Signal::Verdict(Ok(Bytes::from_static(b"done"))));
        tell(&job, Signal::Alive);
        drop(job);
        let seen = news.borrow_and_update().clone();
        assert_eq!((seen.progress.as_deref(), seen.verdict), (Some(&b"2"[..]), Some(Ok(Bytes::from_static(b"done")))));
    }
}
