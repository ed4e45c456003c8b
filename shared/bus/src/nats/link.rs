//! The connection: the first one is waited for, later ones heal themselves; requests learn at once when it breaks under
//! them or when the server forbids them.

use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::connection::State;
use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Message, ServerAddr, ServerError, StatusCode,
};
use berth_model::Status;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::inbox::Inbox;
use super::{credentials, header};
use crate::backoff::{Backoff, jittered};
use crate::frame;
use crate::options::NatsOptions;

/// The oldest server whose JetStream does what is needed here.
const OLDEST_SERVER: (i64, i64, i64) = (2, 9, 0);

/// One connection, shared by all clones of a bus.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) inbox: Inbox,
    /// The URL without credentials.
    pub(super) url: String,
    /// How often the connection broke so far.
    breaks: watch::Sender<u64>,
    /// The subject the server forbade last.
    denied: watch::Sender<String>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Nobody listens on the subject.
    Nobody,
    /// The connection broke after the request was sent.
    Lost,
    /// It will never be answered.
    Refused(Status),
}

impl Link {
    pub(super) async fn connect(options: &NatsOptions) -> Result<Self, Status> {
        let url = options.shown_url();
        let (breaks, denied) = (watch::Sender::new(0), watch::Sender::new(String::new()));
        let servers = options.url.split(',').map(|one| one.trim().parse::<ServerAddr>()).collect::<Result<Vec<_>, _>>();
        // The reason may quote the URL with its password, so it is not shown.
        let Ok(servers) = servers else {
            return Err(Status::invalid_argument(format!("{url:?} is not a NATS URL; it looks like nats://host:4222")));
        };
        let deadline = Instant::now() + options.wait;
        let mut backoff = Backoff::quick();
        loop {
            let attempt =
                credentials::apply(connect_options(options, &breaks, &denied, &url), &servers).connect(servers.clone());
            let error = match tokio::time::timeout_at(deadline, attempt).await {
                Ok(Ok(client)) => {
                    check_version(&client, &url)?;
                    tracing::info!(url, prefix = options.prefix, "connected to NATS");
                    let inbox = Inbox::open(&client)
                        .await
                        .map_err(|error| Status::unavailable(format!("could not listen at {url}: {error}")))?;
                    return Ok(Self { client, inbox, url, breaks, denied });
                }
                Ok(Err(error)) => error.kind(),
                Err(_elapsed) => ConnectErrorKind::TimedOut,
            };
            match error {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    return Err(Status::unauthenticated(format!(
                        "the NATS server at {url} does not accept the credentials given (in the URL: nats://user:password@host)"
                    )));
                }
                ConnectErrorKind::ServerParse => {
                    return Err(Status::invalid_argument(format!(
                        "{url:?} is not a NATS URL; it looks like nats://host:4222"
                    )));
                }
                _ => {}
            }
            let pause = backoff.next();
            if Instant::now() + pause >= deadline {
                return Err(Status::unavailable(format!(
                    "no NATS server answers at {url} (waited {:?}, last error: {error}); start one with `nats-server -js`, or name another with --nats",
                    options.wait
                )));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Changes each time the connection breaks.
    pub(super) fn breaks(&self) -> watch::Receiver<u64> {
        self.breaks.subscribe()
    }

    /// Whether the server can be reached right now.
    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Sends a request and waits for its answer; the caller bounds the time. With a bound on `silence`, the other side
    /// is expected to send signs of life ([`frame::WORKING`]), and the request counts as lost without them.
    pub(super) async fn request(
        &self,
        subject: &str,
        headers: HeaderMap,
        body: Bytes,
        silence: Option<Duration>,
    ) -> Result<Message, Unanswered> {
        let mut breaks = self.breaks.subscribe();
        let mut denied = self.denied.subscribe();
        let mut mailbox = self.inbox.mailbox();
        let sent = self
            .client
            .publish_with_reply_and_headers(subject.to_owned(), mailbox.address.clone(), headers, body)
            .await;
        sent.map_err(|error| match error.kind() {
            PublishErrorKind::Send => Unanswered::Lost,
            PublishErrorKind::MaxPayloadExceeded | PublishErrorKind::InvalidSubject => {
                Unanswered::Refused(Status::invalid_argument(format!("{subject}: {error}")))
            }
        })?;
        loop {
            let deaf = async {
                match silence {
                    Some(silence) => tokio::time::sleep(silence).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = mailbox.answers.recv() => match answer {
                    None => return Err(Unanswered::Lost),
                    Some(message) if message.status == Some(StatusCode::NO_RESPONDERS) => return Err(Unanswered::Nobody),
                    Some(message) if header(message.headers.as_ref(), frame::WORKING).is_some() => {}
                    Some(message) => return Ok(message),
                },
                _broken = breaks.changed() => return Err(Unanswered::Lost),
                () = forbidden(&mut denied, subject) => return Err(Unanswered::Refused(self.not_permitted(subject))),
                () = deaf => return Err(Unanswered::Lost),
            }
        }
    }

    /// Publishes without waiting for anybody; a failure is worth a line in the debug log and no more, because whoever
    /// needs the message has a way to ask again.
    pub(super) async fn tell(&self, subject: String, headers: HeaderMap, body: Bytes) {
        noted(self.client.publish_with_headers(subject.clone(), headers, body).await, &subject);
    }

    /// The same, with an address for answers.
    pub(super) async fn tell_from(&self, sender: &str, subject: String, headers: HeaderMap, body: Bytes) {
        let sent = self.client.publish_with_reply_and_headers(subject.clone(), sender.to_owned(), headers, body).await;
        noted(sent, &subject);
    }

    fn not_permitted(&self, subject: &str) -> Status {
        Status::permission_denied(format!(
            "not permitted on subject {subject} by the NATS server at {}; see the permissions of this user",
            self.url
        ))
    }
}

fn noted(sent: Result<(), async_nats::PublishError>, subject: &str) {
    if let Err(error) = sent {
        let kind: PublishErrorKind = error.kind();
        tracing::debug!(subject, error = %kind, "message was not sent");
    }
}

/// Waits until the server forbids `subject`.
async fn forbidden(denied: &mut watch::Receiver<String>, subject: &str) {
    while denied.changed().await.is_ok() {
        if denied.borrow_and_update().as_str() == subject {
            return;
        }
    }
    std::future::pending().await
}

fn connect_options(
    options: &NatsOptions,
    breaks: &watch::Sender<u64>,
    denied: &watch::Sender<String>,
    url: &str,
) -> ConnectOptions {
    let (breaks, denied, url) = (breaks.clone(), denied.clone(), url.to_owned());
    ConnectOptions::new()
        .name(&options.name)
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(10))
        .subscription_capacity(8192)
        .reconnect_delay_callback(|attempt| jittered(Duration::from_millis(25 << attempt.min(5))))
        .event_callback(move |event| {
            match &event {
                Event::Connected => tracing::debug!(url, "connection to NATS is up"),
                Event::Disconnected => {
                    tracing::warn!(url, "lost the connection to NATS; connecting again");
                    breaks.send_modify(|count| *count += 1);
                }
                Event::ServerError(ServerError::Other(text)) => match denied_subject(text) {
                    Some(subject) => {
                        tracing::warn!(url, subject, "not permitted on subject by the NATS server");
                        denied.send_replace(subject.to_owned());
                    }
                    None => tracing::warn!(url, text, "NATS server reports an error"),
                },
                other => tracing::warn!(url, event = %other, "NATS"),
            }
            std::future::ready(())
        })
}

/// The subject in `Permissions Violation for Publish to "a.b"`.
fn denied_subject(text: &str) -> Option<&str> {
    if !text.to_ascii_lowercase().starts_with("permissions violation") {
        return None;
    }
    text.split('"').nth(1)
}

fn check_version(client: &Client, url: &str) -> Result<(), Status> {
    let (major, minor, patch) = OLDEST_SERVER;
    if client.is_server_compatible(major, minor, patch) {
        return Ok(());
    }
    let version = client.server_info().version;
    Err(Status::failed_precondition(format!(
        "the NATS server at {url} is version {version}; berth needs {major}.{minor}.{patch} or newer"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forbidden_subject_is_found() {
        assert_eq!(denied_subject("Permissions Violation for Publish to \"berth.call.X\""), Some("berth.call.X"));
        assert_eq!(denied_subject("permissions violation for subscription to \"a.>\" using queue \"q\""), Some("a.>"));
        assert_eq!(denied_subject("maximum connections exceeded"), None);
    }
}
