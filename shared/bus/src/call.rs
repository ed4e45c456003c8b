//! The call verb: one request, one reply, and how long to go on trying until then.
//!
//! Handlers are idempotent by the design, so a call is repeated when nobody answers yet, when a replica turns it away,
//! and when the connection broke under it; never after a handler answered.

use std::future::Future;
use std::time::Duration;

use berth_model::Status;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::frame::Reply;
use crate::subject::service_of;

/// What came of one try.
#[derive(Debug)]
pub(crate) enum Tried {
    /// An answer.
    Replied(Reply),
    /// Nobody serves the subject (yet).
    Nobody,
    /// The connection broke while waiting; nobody knows whether the handler ran.
    Lost,
    /// The try cannot succeed.
    Refused(Status),
}

/// One call on its way.
pub(crate) struct Calling<'a> {
    pub(crate) subject: &'static str,
    /// How long the caller waits for the reply.
    pub(crate) limit: Duration,
    /// How long the caller waits for a service to appear.
    pub(crate) wait: Duration,
    /// Where the service was looked for, for a person.
    pub(crate) place: &'a str,
    /// The remedy when there is none.
    pub(crate) remedy: &'a str,
    /// Changes when a service appears, where that can be told; elsewhere it is found at the next try.
    pub(crate) appeared: Option<&'a watch::Sender<()>>,
}

impl Calling<'_> {
    /// Tries until there is an answer or the time is up. `attempt` is given the time that is left.
    pub(crate) async fn drive<F, Fut>(&self, mut attempt: F) -> Result<bytes::Bytes, Status>
    where
        F: FnMut(Duration) -> Fut,
        Fut: Future<Output = Tried>,
    {
        let deadline = Instant::now() + self.limit;
        let mut backoff = Backoff::quick();
        let mut alone_since: Option<Instant> = None;
        let mut news: Option<watch::Receiver<()>> = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match tokio::time::timeout_at(deadline, attempt(left)).await {
                Err(_elapsed) => return Err(self.too_late()),
                Ok(Tried::Replied(Reply::Done(body))) => return Ok(body),
                Ok(Tried::Replied(Reply::Failed(status)) | Tried::Refused(status)) => return Err(status),
                Ok(Tried::Replied(Reply::Again(why))) => why,
                Ok(Tried::Lost) => "the connection to the bus was lost".to_owned(),
                Ok(Tried::Nobody) => {
                    let since = *alone_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.wait {
                        return Err(self.nobody());
                    }
                    if news.is_none()
                        && let Some(appeared) = self.appeared
                    {
                        // It may have appeared between the look and this; from here on nothing is missed.
                        news = Some(appeared.subscribe());
                        continue;
                    }
                    String::new()
                }
            };
            let alone = why.is_empty();
            if !alone {
                alone_since = None;
            }
            let patience = alone_since.map_or(deadline, |since| deadline.min(since + self.wait));
            let pause = backoff.next().min(patience.saturating_duration_since(Instant::now()));
            match news.as_mut() {
                Some(news) => drop(tokio::time::timeout(pause, news.changed()).await),
                None => tokio::time::sleep(pause).await,
            }
            if Instant::now() >= patience {
                return Err(if alone {
                    self.nobody()
                } else {
                    Status::unavailable(format!("{}: {why}; gave up after {:?}", self.subject, self.limit))
                });
            }
        }
    }

    fn nobody(&self) -> Status {
        let service = service_of(self.subject);
        Status::unavailable(format!(
            "no `{service}` service answers {}{}",
            self.place,
            self.remedy.replace("{service}", service)
        ))
    }

    fn too_late(&self) -> Status {
        Status::deadline_exceeded(format!("{} did not answer within {:?} {}", self.subject, self.limit, self.place))
    }
}
