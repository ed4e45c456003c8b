//! Calls over core NATS: a request to a subject, answered by one replica of the queue group.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use berth_model::Status;
use bytes::Bytes;
use futures::StreamExt;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::link::Unanswered;
use super::{Nats, from_nats, header, to_nats};
use crate::call::{Calling, Tried};
use crate::endpoint::{CallHandler, Endpoint, Request};
use crate::frame::{self, Reply};
use crate::serving::{Life, Serving};
use crate::subject::service_of;
use crate::trace::Headers;

/// How often a replica says that it is still at work on a request.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// A request of which nothing was heard this long has no replica any more: it died, or it left while the request was on
/// its way. The request is sent again.
const SILENCE: Duration = Duration::from_secs(4);
/// How long a subscription may take to end.
const LEAVING: Duration = Duration::from_secs(2);
/// Assumed of a caller that does not say how long it waits.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(30);

impl Nats {
    pub(crate) async fn call(
        &self,
        subject: &'static str,
        body: Bytes,
        headers: Headers,
        limit: Duration,
    ) -> Result<Bytes, Status> {
        let place = format!("on the bus at {}", self.link.url);
        let remedy = format!("; start one with `berth serve {{service}} --nats {}`", self.link.url);
        let calling = Calling { subject, limit, wait: self.wait, place: &place, remedy: &remedy, appeared: None };
        let address = self.names.call(subject);
        let result = calling
            .drive(|left| {
                let mut headers = to_nats(&headers);
                headers.insert(frame::LIMIT, left.as_millis().to_string());
                self.try_call(&address, headers, body.clone())
            })
            .await;
        match result {
            Err(_late) if !self.link.is_connected() => Err(self.link.away(subject)),
            result => result,
        }
    }

    async fn try_call(&self, address: &str, headers: async_nats::HeaderMap, body: Bytes) -> Tried {
        match self.link.request(address, headers, body, Some(SILENCE)).await {
            Ok(message) => {
                Tried::Replied(Reply::from_parts(|name| header(message.headers.as_ref(), name), message.payload))
            }
            Err(Unanswered::Nobody) => Tried::Nobody,
            Err(Unanswered::Lost) => Tried::Lost,
            Err(Unanswered::Refused(status)) => Tried::Refused(status),
        }
    }

    pub(crate) async fn serve(
        self: &Arc<Self>,
        subject: &'static str,
        handler: CallHandler,
    ) -> Result<Serving, Status> {
        let address = self.names.call(subject);
        let group = service_of(subject).to_owned();
        let refused = |error: String| {
            Status::unavailable(format!("could not serve {subject} on the bus at {}: {error}", self.link.url))
        };
        let mut requests =
            self.link.client.queue_subscribe(address, group).await.map_err(|error| refused(error.to_string()))?;
        // Best effort: a call that overtakes the subscription finds nobody, and is tried again.
        self.flush().await;
        let life = Life::default();
        let endpoint = Arc::new(Endpoint::new(subject, handler, self.max_payload(), life.clone()));
        let (nats, stop) = (Arc::clone(self), life.stop.clone());
        life.tasks.spawn(async move {
            loop {
                let message = tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    message = requests.next() => message,
                };
                match message {
                    Some(message) => nats.accept(&endpoint, message).await,
                    None => {
                        return tracing::warn!(subject, "the subscription ended: the connection to NATS was closed");
                    }
                }
            }
            // What was sent here already is answered ("stopping, try again") and not left to time out.
            let rest = async {
                if let Err(error) = requests.drain().await {
                    return tracing::debug!(subject, %error, "could not end the subscription in order");
                }
                while let Some(message) = requests.next().await {
                    nats.accept(&endpoint, message).await;
                }
            };
            if tokio::time::timeout(LEAVING, rest).await.is_err() {
                tracing::debug!(subject, "the subscription did not end in time");
            }
        });
        Ok(Serving::of_calls(life, Some(Arc::clone(self))))
    }

    async fn accept(self: &Arc<Self>, endpoint: &Arc<Endpoint>, message: Message) {
        let Some(reply_to) = message.reply else { return };
        let headers = from_nats(message.headers.as_ref());
        let limit = header(message.headers.as_ref(), frame::LIMIT)
            .and_then(|text| text.parse().ok())
            .map_or(UNKNOWN_LIMIT, Duration::from_millis);
        let nats = Arc::clone(self);
        let gone = CancellationToken::new();
        let at_work = self.show_life(reply_to.to_string(), gone.clone());
        let request = Request { body: message.payload, headers, limit, gone };
        let answer = |reply: Reply| async move {
            let (headers, body) = reply.into_parts();
            drop(at_work);
            nats.link.tell(reply_to.to_string(), to_nats(&headers), body).await;
        };
        endpoint.accept(request, answer).await;
    }

    /// Sends signs of life to `address` until the guard is dropped, or until the answer is that nobody waits.
    fn show_life(self: &Arc<Self>, address: String, gone: CancellationToken) -> DropGuard {
        let (answered, nats) = (CancellationToken::new(), Arc::clone(self));
        let guard = answered.clone().drop_guard();
        tokio::spawn(async move {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert(frame::WORKING, "1");
            let mut mailbox = nats.link.inbox.mailbox();
            loop {
                tokio::select! {
                    () = answered.cancelled() => return,
                    () = tokio::time::sleep(SIGN_OF_LIFE) => {}
                    Some(_nobody) = mailbox.answers.recv() => return gone.cancel(),
                }
                nats.link.tell_from(&mailbox.address, address.clone(), headers.clone(), Bytes::new()).await;
            }
        });
        guard
    }
}
