//! The connection: the first one is waited for, later ones heal themselves; requests learn at once when it breaks under
//! them or when the server forbids them.

use std::sync::Arc;
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message, ServerAddr, ServerError, StatusCode};
use berth_model::Status;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::denials::{self, Denials};
use super::inbox::Inbox;
use super::{header, identity, refusal, tls};
use crate::backoff::{Backoff, jittered};
use crate::frame;
use crate::options::NatsOptions;
use crate::subject::Names;

/// The oldest server whose JetStream does what is needed here.
const OLDEST_SERVER: (i64, i64, i64) = (2, 9, 0);

/// How often the server is asked whether it is there. After two pings without an answer the connection counts as broken: a
/// server that hangs, or a cable that was pulled, is noticed well within the time that a call waits.
const PING: Duration = Duration::from_secs(3);
/// How long after the server answered its refusal of a subscription may still be on its way through the client.
const REFUSAL: Duration = Duration::from_millis(25);

/// One connection, shared by all clones of a bus.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) inbox: Inbox,
    /// The URL without credentials.
    pub(super) url: String,
    /// How often the connection broke so far.
    breaks: watch::Sender<u64>,
    /// What the server forbade.
    denials: Arc<Denials>,
    /// What went wrong since the connection was up last.
    trouble: watch::Sender<Option<String>>,
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
        let (breaks, denials) = (watch::Sender::new(0), Arc::new(Denials::default()));
        let servers = options.url.split(',').map(|one| one.trim().parse::<ServerAddr>()).collect::<Result<Vec<_>, _>>();
        // The reason may quote the URL with its password, so it is not shown.
        let Ok(servers) = servers else {
            return Err(Status::invalid_argument(format!("{url:?} is not a NATS URL; it looks like nats://host:4222")));
        };
        if let Some(fault) = options.security.fault() {
            return Err(Status::invalid_argument(format!("the settings of NATS: {fault}")));
        }
        let trouble = watch::Sender::new(None);
        let listener = Listener {
            url: url.clone(),
            breaks: breaks.clone(),
            denials: Arc::clone(&denials),
            trouble: trouble.clone(),
        };
        let deadline = Instant::now() + options.wait;
        let mut backoff = Backoff::quick();
        loop {
            let secured = tls::apply(identity::options(&options.security, &servers)?, &options.security)?;
            let attempt = connect_options(secured, options, &listener).connect(servers.clone());
            let error = match tokio::time::timeout_at(deadline, attempt).await {
                Ok(Ok(client)) => {
                    check_version(&client, &url)?;
                    tracing::info!(url, prefix = options.prefix, "connected to NATS");
                    let inbox = Inbox::open(&client)
                        .await
                        .map_err(|error| Status::unavailable(format!("could not listen at {url}: {error}")))?;
                    let link = Self { client, inbox, url, breaks, denials, trouble };
                    if options.security.proves_identity() {
                        link.hear_answers(&options.role).await?;
                    }
                    return Ok(link);
                }
                Ok(Err(error)) => match refusal::of(&error, &url, &options.security) {
                    Some(refusal) => return Err(refusal),
                    None => refusal::reason(&error),
                },
                Err(_elapsed) => "timed out".to_owned(),
            };
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

    /// Says that the server is away, and why, if that is known.
    pub(super) fn away(&self, what: &str) -> Status {
        let why = self.trouble.borrow().as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        Status::unavailable(format!("{what}: not connected to the NATS server at {}{why}", self.url))
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
        let mut denied = self.denials.listen();
        if self.denials.has_subscription(&self.inbox.subject()) {
            return Err(Unanswered::Refused(self.not_permitted(&self.inbox.subject())));
        }
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
                _denied = denials::until(&mut denied, |one| one == subject) => return Err(Unanswered::Refused(self.not_permitted(subject))),
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

    /// An inbox that we may not listen to makes every request hang: that is told at once. Most often it is the key of
    /// another service.
    async fn hear_answers(&self, role: &str) -> Result<(), Status> {
        let (mut denied, inbox) = (self.denials.listen(), self.inbox.subject());
        let flushed = tokio::time::timeout(Duration::from_secs(2), self.client.flush()).await;
        tracing::trace!(?flushed, "asked whether the inbox is ours");
        let refused = self.denials.has_subscription(&inbox)
            || tokio::time::timeout(REFUSAL, denials::until(&mut denied, |one| one == inbox)).await.is_ok();
        if refused {
            return Err(self.not_permitted(&inbox).context(format!("this user is not the one of `{role}`")));
        }
        Ok(())
    }

    /// Awaits the client's own requests to JetStream, which do not learn that they are forbidden.
    pub(super) async fn permitted<T>(&self, work: impl Future<Output = T>) -> Result<T, Status> {
        let mut denied = self.denials.listen();
        tokio::select! {
            done = work => Ok(done),
            subject = denials::until(&mut denied, |one| one.starts_with("$JS.API.")) => Err(self.not_permitted(&subject)),
        }
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

/// What the connection tells of itself, and to whom it is passed on.
#[derive(Clone)]
struct Listener {
    url: String,
    breaks: watch::Sender<u64>,
    denials: Arc<Denials>,
    trouble: watch::Sender<Option<String>>,
}

impl Listener {
    fn hear(&self, event: &Event) {
        let url = &self.url;
        match event {
            Event::Connected => {
                self.trouble.send_replace(None);
                self.denials.forget();
                tracing::debug!(url, "connection to NATS is up");
            }
            Event::Disconnected => {
                tracing::warn!(url, "lost the connection to NATS; connecting again");
                self.breaks.send_modify(|count| *count += 1);
            }
            Event::ServerError(ServerError::Other(text)) if self.denials.hear(text) => {
                tracing::warn!(url, text, "not permitted by the NATS server; see the permissions of this user");
            }
            Event::ServerError(error) => {
                tracing::warn!(url, %error, "the NATS server reports an error");
                self.trouble.send_replace(Some(error.to_string()));
            }
            // Each failed try to connect again is one; the first of a kind is worth a line.
            Event::ClientError(error) => {
                let why = error.to_string();
                let is_news = self.trouble.send_if_modified(|known| {
                    let is_news = known.as_ref() != Some(&why);
                    *known = Some(why.clone());
                    is_news
                });
                if is_news {
                    tracing::warn!(url, why, "cannot connect to NATS; trying again");
                }
            }
            other => tracing::warn!(url, event = %other, "NATS"),
        }
    }
}

fn connect_options(secured: ConnectOptions, options: &NatsOptions, listener: &Listener) -> ConnectOptions {
    let listener = listener.clone();
    secured
        .name(&options.name)
        .custom_inbox_prefix(Names::inbox(&options.prefix, &options.role))
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(PING)
        .subscription_capacity(8192)
        .reconnect_delay_callback(|attempt| jittered(Duration::from_millis(25 << attempt.min(5))))
        .event_callback(move |event| {
            listener.hear(&event);
            std::future::ready(())
        })
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
