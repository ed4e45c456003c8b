//! Dead letters over NATS: a stream of their own, bounded in number, size and age.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::Message;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use berth_model::Status;

use super::streams::Kind;
use super::{Nats, from_nats, header};
use crate::dead::{self, DeadLetter};
use crate::frame;

/// How long a worker tries to keep a dead letter; its next job waits.
const KEEP: Duration = Duration::from_secs(5);
/// The most of a reason that is kept. Headers of a message have to fit beside its body.
const REASON: usize = 4096;

impl Nats {
    /// Keeps a job that was given up. Whoever submitted it knows already: a failure here loses the letter, not the verdict.
    pub(super) async fn bury(&self, kind: &str, id: &str, message: &Message, deliveries: u32, status: &Status) {
        let ours = |name: &str| name.starts_with("berth-") || name.to_ascii_lowercase().starts_with("nats-");
        let mut headers = from_nats(message.headers.as_ref());
        let key = header(message.headers.as_ref(), frame::JOB_KEY).unwrap_or_default();
        headers.retain(|(name, _)| !ours(name));
        let reason: String = status.message.chars().take(REASON).collect();
        headers.extend(
            [
                (frame::JOB_ID, id.to_owned()),
                (frame::JOB_KEY, key),
                (frame::CODE, status.code.number().to_string()),
                (frame::REASON, reason),
                (frame::ATTEMPTS, deliveries.to_string()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let subject = self.names.dead(kind);
        if let Err(status) = self.store(Kind::Dead, &subject, id, &headers, message.payload.clone(), KEEP).await {
            tracing::warn!(kind, id, %status, "a job that was given up could not be kept as a dead letter");
        }
    }

    /// All of them, the oldest first.
    pub(crate) async fn dead_letters(&self) -> Result<Vec<DeadLetter>, Status> {
        Ok(self.graves().await?.1.into_iter().map(|(_, letter)| letter).collect())
    }

    /// Puts one back into its queue, as a new job.
    pub(crate) async fn requeue(&self, id: &str) -> Result<(), Status> {
        let (stream, graves) = self.graves().await?;
        let (sequence, letter) =
            graves.into_iter().find(|(_, letter)| letter.id == id).ok_or_else(|| dead::unknown(id))?;
        let mut headers = letter.headers;
        let fresh = uuid::Uuid::now_v7().to_string();
        headers.push((frame::JOB_ID.to_owned(), fresh));
        headers.push((frame::JOB_KEY.to_owned(), letter.key));
        headers.push((frame::JOB_AGAIN.to_owned(), "1".to_owned()));
        // Asked twice, it is put back once: the message's id is that of the letter.
        let message_id = format!("{id}.again");
        let subject = self.names.job(&letter.kind);
        self.store(Kind::Jobs, &subject, &message_id, &headers, letter.body, self.wait).await?;
        self.unearth(&stream, sequence).await
    }

    /// Drops one.
    pub(crate) async fn remove_dead(&self, id: &str) -> Result<(), Status> {
        let (stream, graves) = self.graves().await?;
        let (sequence, _) = graves.into_iter().find(|(_, letter)| letter.id == id).ok_or_else(|| dead::unknown(id))?;
        self.unearth(&stream, sequence).await
    }

    async fn unearth(&self, stream: &Stream, sequence: u64) -> Result<(), Status> {
        let removed = self.link.permitted(stream.delete_message(sequence)).await?;
        removed.map(drop).map_err(|error| {
            Status::unavailable(format!("the dead letter could not be removed at {}: {error}", self.link.url))
        })
    }

    async fn graves(&self) -> Result<(Stream, Vec<(u64, DeadLetter)>), Status> {
        let stream = self.ensure(Kind::Dead).await?;
        let (all, mut next) = (self.names.dead(">"), 1);
        let mut found = Vec::new();
        // The stream holds no more; who reads while it grows may see one twice as many, and ends there.
        while found.len() < 2 * dead::MOST {
            let message = self.link.permitted(stream.get_first_raw_message_by_subject(&all, next)).await?;
            let message = match message {
                Ok(message) => message,
                Err(error) => match error.kind() {
                    LastRawMessageErrorKind::NoMessageFound => break,
                    LastRawMessageErrorKind::JetStream(error)
                        if error.error_code() == ErrorCode::NO_MESSAGE_FOUND || error.code() == 404 =>
                    {
                        break;
                    }
                    _ => {
                        return Err(Status::unavailable(format!(
                            "the dead letters at {} cannot be read: {error}",
                            self.link.url
                        )));
                    }
                },
            };
            next = message.sequence + 1;
            found.extend(self.letter(message));
        }
        Ok((stream, found))
    }

    /// Anything else in the stream is not ours to show.
    fn letter(&self, message: StreamMessage) -> Option<(u64, DeadLetter)> {
        let kind = message.subject.strip_prefix(&self.names.dead(""))?.to_owned();
        let get = |name: &str| header(Some(&message.headers), name);
        let mut headers = from_nats(Some(&message.headers));
        headers.retain(|(name, _)| !name.starts_with("berth-") && !name.to_ascii_lowercase().starts_with("nats-"));
        let letter = DeadLetter {
            id: get(frame::JOB_ID)?,
            kind,
            key: get(frame::JOB_KEY).unwrap_or_default(),
            status: frame::read_failure(&get(frame::CODE)?, get(frame::REASON).unwrap_or_default().as_bytes()),
            attempts: get(frame::ATTEMPTS).and_then(|text| text.parse().ok()).unwrap_or_default(),
            at: SystemTime::from(message.time),
            body: message.payload,
            headers,
        };
        Some((message.sequence, letter))
    }
}
