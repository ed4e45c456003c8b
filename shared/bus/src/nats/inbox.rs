//! Where answers arrive: one subscription per connection, and a bounded mailbox per request that waits.
//!
//! The client's own request method would do for one answer per request. Here a replica also says that it is still at
//! work, so that a request whose replica died, or left while the request was on its way, is noticed within seconds. And
//! the replica notices a caller that left: its sign of life names an address of its own, to which this side answers when
//! nobody waits any more, and the server when this side is gone altogether.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{Client, Message};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Answers to one request that were not looked at yet: signs of life and the reply.
const MAILBOX: usize = 16;

type Waiting = Arc<Mutex<HashMap<String, mpsc::Sender<Message>>>>;

/// The answers of one connection.
#[derive(Debug)]
pub(super) struct Inbox {
    prefix: String,
    next: AtomicU64,
    waiting: Waiting,
    _open: DropGuard,
}

/// The mailbox of one request; closes when dropped.
pub(super) struct Mailbox {
    /// The subject to answer to.
    pub(super) address: String,
    /// What was answered.
    pub(super) answers: mpsc::Receiver<Message>,
    token: String,
    waiting: Waiting,
}

impl Inbox {
    /// Opens the inbox of a connection.
    pub(super) async fn open(client: &Client) -> Result<Self, async_nats::SubscribeError> {
        let prefix = client.new_inbox();
        let mut arriving = client.subscribe(format!("{prefix}.*")).await?;
        let waiting = Waiting::default();
        let (open, delivery, client) = (CancellationToken::new(), Arc::clone(&waiting), client.clone());
        let closed = open.clone();
        tokio::spawn(async move {
            while let Some(Some(message)) = closed.run_until_cancelled(arriving.next()).await {
                let token = message.subject.rsplit('.').next().unwrap_or_default();
                let mailbox = lock(&delivery).get(token).cloned();
                match (mailbox, message.reply.clone()) {
                    (Some(mailbox), _) => {
                        // Full of signs of life: nothing is lost that is not asked for again.
                        if mailbox.try_send(message).is_err() {
                            tracing::trace!("an answer found its mailbox full");
                        }
                    }
                    (None, Some(at_work)) => {
                        let told = client.publish(at_work, Bytes::new()).await;
                        tracing::trace!(told = told.is_ok(), "whoever is at work on a request may stop");
                    }
                    (None, None) => tracing::trace!("an answer came too late"),
                }
            }
        });
        Ok(Self { prefix, next: AtomicU64::new(0), waiting, _open: open.drop_guard() })
    }

    /// The subject that all answers arrive at.
    pub(super) fn subject(&self) -> String {
        format!("{}.*", self.prefix)
    }

    /// A mailbox for one request.
    pub(super) fn mailbox(&self) -> Mailbox {
        let token = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let (sender, answers) = mpsc::channel(MAILBOX);
        lock(&self.waiting).insert(token.clone(), sender);
        Mailbox { address: format!("{}.{token}", self.prefix), answers, token, waiting: Arc::clone(&self.waiting) }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.token);
    }
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Message>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
