//! The two streams and the consumers: made if missing, read back, and refused if they are not what is needed.
//!
//! Older servers ignore fields they do not know and other people make streams of the same name; so what counts is what
//! the server says it has, not what it was asked for. Limits an operator may tune (ages, sizes, replicas) are left alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use berth_model::Status;

use super::Nats;
use crate::dead;
use crate::subject::Names;
use crate::verdict::MAX_DELIVERIES;

/// Jobs of all kinds that are not done.
const MOST_JOBS: i64 = 10_000;
/// How long events are kept.
const EVENTS_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How much of events is kept.
const EVENTS_BYTES: i64 = 1024 * 1024 * 1024;
/// How much of dead letters is kept.
const DEAD_BYTES: i64 = 64 * 1024 * 1024;
/// How long a message id is remembered.
const DUPLICATES: Duration = Duration::from_secs(120);
/// A publisher tries again for up to half a minute; what it repeats has to be recognised for as long.
const SHORTEST_DUPLICATES: Duration = Duration::from_secs(60);
/// JetStream's error code for a cluster that has no place for so many replicas; one that is starting will have.
const TOO_FEW_SERVERS: u64 = 10005;
/// A worker that shows no life for this long has lost its job.
const ACK_WAIT: Duration = Duration::from_secs(10);

/// Which stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Jobs,
    Events,
    Dead,
}

/// Which streams are known to be there.
#[derive(Debug, Default)]
pub(super) struct Seen {
    jobs: AtomicBool,
    events: AtomicBool,
    dead: AtomicBool,
}

impl Nats {
    /// The stream, made if it was missing.
    pub(super) async fn ensure(&self, kind: Kind) -> Result<Stream, Status> {
        let wanted = self.config(kind);
        let stream = self.find_or_make(&wanted.name, || self.find(&wanted.name), || self.create(&wanted)).await?;
        let found = &stream.cached_info().config;
        check(&wanted, found)
            .map_err(|status| status.context(format!("the stream {} at {}", wanted.name, self.link.url)))?;
        if !self.streams_seen(kind).swap(true, Ordering::Relaxed) && found.num_replicas < wanted.num_replicas {
            tracing::warn!(
                stream = wanted.name,
                url = self.link.url,
                found = found.num_replicas,
                wanted = wanted.num_replicas,
                "the stream is on fewer servers than wanted; `nats stream edit --replicas` moves it"
            );
        }
        Ok(stream)
    }

    /// Whether the stream was there when it was last looked for, and nothing speaks against it since.
    pub(super) fn seen(&self, kind: Kind) -> bool {
        self.streams_seen(kind).load(Ordering::Relaxed)
    }

    /// Something speaks against it.
    pub(super) fn look_again(&self, kind: Kind) {
        self.streams_seen(kind).store(false, Ordering::Relaxed);
    }

    fn streams_seen(&self, kind: Kind) -> &AtomicBool {
        match kind {
            Kind::Jobs => &self.streams.jobs,
            Kind::Events => &self.streams.events,
            Kind::Dead => &self.streams.dead,
        }
    }

    async fn find(&self, name: &str) -> Result<Option<Stream>, Status> {
        let error = match self.link.permitted(self.jetstream.get_stream(name)).await? {
            Ok(stream) => return Ok(Some(stream)),
            Err(error) => error.kind(),
        };
        match error {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            GetStreamErrorKind::JetStream(error) => Err(self.jetstream_refuses(name, &error)),
            _ => Err(self.jetstream_silent(name)),
        }
    }

    async fn create(&self, wanted: &Config) -> Result<Stream, Status> {
        match self.link.permitted(self.jetstream.create_stream(wanted)).await? {
            Ok(stream) => {
                tracing::info!(stream = wanted.name, url = self.link.url, "created the stream");
                Ok(stream)
            }
            Err(error) => Err(match error.kind() {
                CreateStreamErrorKind::JetStream(error) => self.jetstream_refuses(&wanted.name, &error),
                _ => self.jetstream_silent(&wanted.name),
            }),
        }
    }

    fn config(&self, kind: Kind) -> Config {
        match kind {
            Kind::Jobs => Config {
                name: self.names.jobs_stream(),
                subjects: vec![self.names.job(">")],
                retention: RetentionPolicy::WorkQueue,
                storage: StorageType::File,
                discard: DiscardPolicy::New,
                max_messages: MOST_JOBS,
                duplicate_window: DUPLICATES,
                num_replicas: self.replicas,
                description: Some("berth: work that is not done yet".to_owned()),
                ..Config::default()
            },
            Kind::Events => Config {
                name: self.names.events_stream(),
                subjects: vec![self.names.event(">")],
                retention: RetentionPolicy::Limits,
                storage: StorageType::File,
                discard: DiscardPolicy::Old,
                max_age: EVENTS_AGE,
                max_bytes: EVENTS_BYTES,
                duplicate_window: DUPLICATES,
                num_replicas: self.replicas,
                description: Some("berth: what happened".to_owned()),
                ..Config::default()
            },
            Kind::Dead => Config {
                name: self.names.dead_stream(),
                subjects: vec![self.names.dead(">")],
                retention: RetentionPolicy::Limits,
                storage: StorageType::File,
                discard: DiscardPolicy::Old,
                max_messages: i64::try_from(dead::MOST).unwrap_or(i64::MAX),
                max_bytes: DEAD_BYTES,
                max_age: dead::AGE,
                duplicate_window: DUPLICATES,
                num_replicas: self.replicas,
                description: Some("berth: work that was given up".to_owned()),
                ..Config::default()
            },
        }
    }

    /// The durable consumer all workers of a kind share.
    pub(super) async fn job_consumer(&self, kind: &str) -> Result<Consumer<pull::Config>, Status> {
        let stream = self.ensure(Kind::Jobs).await?;
        let name = Names::consumer(kind);
        let wanted = pull::Config {
            durable_name: Some(name.clone()),
            filter_subject: self.names.job(kind),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            // The workers reject a job that was handed out too often; this is the bound behind theirs.
            max_deliver: i64::from(MAX_DELIVERIES) + 10,
            max_ack_pending: MOST_JOBS,
            ..pull::Config::default()
        };
        let place = format!("the consumer {name} of {} at {}", self.names.jobs_stream(), self.link.url);
        let refused = |error: &dyn std::fmt::Display| Status::unavailable(format!("{place} cannot be had: {error}"));
        let is_there = || async {
            match self.link.permitted(stream.consumer_info(&name)).await? {
                Ok(info) => Ok(Some(info)),
                Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => Ok(None),
                Err(error) => Err(refused(&error)),
            }
        };
        let make = || async {
            let made = self.link.permitted(stream.create_consumer(wanted.clone())).await?;
            let made = made.map_err(|error| refused(&error))?;
            Ok(made.cached_info().clone())
        };
        self.find_or_make(&format!("{}.{name}", self.names.jobs_stream()), is_there, make).await?;
        let consumer = self.link.permitted(stream.get_or_create_consumer(&name, wanted.clone())).await?;
        let consumer = consumer.map_err(|error| refused(&error))?;
        let found = &consumer.cached_info().config;
        if found.filter_subject != wanted.filter_subject
            || found.ack_policy != AckPolicy::Explicit
            || found.deliver_subject.is_some()
        {
            return Err(Status::failed_precondition(format!(
                "{place} is not berth's (it takes {:?}, acknowledges {:?}); delete it, or choose another prefix",
                found.filter_subject, found.ack_policy
            )));
        }
        if found.ack_wait < ACK_WAIT {
            return Err(Status::failed_precondition(format!(
                "{place} takes jobs away after {:?}, and needs at least {ACK_WAIT:?}; delete it",
                found.ack_wait
            )));
        }
        Ok(consumer)
    }

    fn jetstream_refuses(&self, stream: &str, error: &jetstream::Error) -> Status {
        let code = error.error_code();
        if no_room(code.0) {
            return Status::resource_exhausted(format!(
                "JetStream at {} has no room for the stream {stream}: {error}; give it more (max_file_store, limits of the account)",
                self.link.url
            ));
        }
        if code == ErrorCode::JETSTREAM_NOT_ENABLED || code == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT {
            return Status::failed_precondition(format!(
                "JetStream is not enabled at {}; start the server with `nats-server -js`",
                self.link.url
            ));
        }
        let why = format!("the stream {stream} at {} cannot be had: {error}", self.link.url);
        if code.0 == TOO_FEW_SERVERS {
            return Status::unavailable(format!("{why}; are enough servers of the cluster up?"));
        }
        if error.code() == 503 { Status::unavailable(why) } else { Status::failed_precondition(why) }
    }

    fn jetstream_silent(&self, stream: &str) -> Status {
        let server = self.link.client.server_info();
        // In a cluster another server may have it.
        if self.link.is_connected() && !server.jetstream && server.cluster.is_none() {
            return Status::failed_precondition(format!(
                "JetStream is not enabled at {}; start the server with `nats-server -js`",
                self.link.url
            ));
        }
        Status::unavailable(format!(
            "JetStream does not answer for the stream {stream} at {}; is the server up, started with -js, and this user permitted on $JS.API.>?",
            self.link.url
        ))
    }
}

/// Whether JetStream's error code says that a limit of the server's, the account's or the disk's is reached: of the
/// account (10002), of the server (10023), of streams (10027), of memory (10028), of the disk (10047).
pub(super) fn no_room(code: u64) -> bool {
    matches!(code, 10002 | 10023 | 10027 | 10028 | 10047)
}

/// Compares what matters.
fn check(wanted: &Config, found: &Config) -> Result<(), Status> {
    let refuse = |what: &str, found: String, wanted: String| {
        Err(Status::failed_precondition(format!(
            "has {what} {found}, and berth needs {wanted}; delete the stream, or choose another prefix"
        )))
    };
    if found.subjects != wanted.subjects {
        return refuse("the subjects", format!("{:?}", found.subjects), format!("{:?}", wanted.subjects));
    }
    if found.retention != wanted.retention {
        return refuse("the retention", format!("{:?}", found.retention), format!("{:?}", wanted.retention));
    }
    if found.storage != wanted.storage {
        return refuse("the storage", format!("{:?}", found.storage), format!("{:?}", wanted.storage));
    }
    if found.discard != wanted.discard {
        return refuse("the discard policy", format!("{:?}", found.discard), format!("{:?}", wanted.discard));
    }
    if found.sealed || found.deny_delete {
        return refuse("no deletion of messages", "(sealed or deny_delete)".to_owned(), "it".to_owned());
    }
    if found.duplicate_window < SHORTEST_DUPLICATES {
        return refuse(
            "a duplicate window of",
            format!("{:?}", found.duplicate_window),
            format!("at least {SHORTEST_DUPLICATES:?}"),
        );
    }
    if found.no_ack {
        return refuse("no acknowledgements", "(no_ack)".to_owned(), "them".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_compared() {
        let wanted = Config {
            duplicate_window: DUPLICATES,
            name: "S".into(),
            subjects: vec!["a.>".into()],
            retention: RetentionPolicy::WorkQueue,
            ..Config::default()
        };
        assert!(check(&wanted, &Config { max_messages: 5, num_replicas: 3, ..wanted.clone() }).is_ok());
        for other in [
            Config { subjects: vec!["b.>".into()], ..wanted.clone() },
            Config { retention: RetentionPolicy::Limits, ..wanted.clone() },
            Config { storage: StorageType::Memory, ..wanted.clone() },
            Config { discard: DiscardPolicy::New, ..wanted.clone() },
            Config { no_ack: true, ..wanted.clone() },
            Config { deny_delete: true, ..wanted.clone() },
            Config { duplicate_window: Duration::from_secs(1), ..wanted.clone() },
        ] {
            assert!(check(&wanted, &other).is_err(), "{other:?}");
        }
    }
}
