//! Publishing into a stream: returns when the stream stored the message, and rides out a server that is away.

use std::time::Duration;

use berth_model::{Code, Status};
use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;

use super::link::Unanswered;
use super::streams::{Kind, no_room};
use super::{Nats, to_nats};
use crate::backoff::Backoff;
use crate::trace::Headers;

/// How long one acknowledgement is waited for before the message is sent again (with its id, so it is stored once).
const ACK_WAIT: Duration = Duration::from_secs(5);
/// JetStream's error code for "no room" (maximum messages or bytes exceeded).
const STORE_FAILED: u64 = 10077;

impl Nats {
    /// Publishes until it is acknowledged or `limit` is over; gives the message's sequence in the stream. An empty `id`
    /// means no de-duplication.
    pub(super) async fn store(
        &self,
        stream: Kind,
        subject: &str,
        id: &str,
        headers: &Headers,
        body: Bytes,
        limit: Duration,
    ) -> Result<u64, Status> {
        let deadline = Instant::now() + limit;
        let mut backoff = Backoff::quick();
        loop {
            // Without the stream there is no acknowledgement, and if anybody listens to the subject, no refusal either.
            if !self.seen(stream)
                && let Err(status) = self.ensure(stream).await
                && status.code != Code::Unavailable
            {
                return Err(status);
            }
            let mut headers = to_nats(headers);
            if !id.is_empty() {
                headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
            }
            let wait = (Instant::now() + ACK_WAIT).min(deadline);
            let why = match tokio::time::timeout_at(wait, self.link.request(subject, headers, body.clone(), None)).await
            {
                Ok(Ok(message)) => match read_ack(&message.payload) {
                    Ok(sequence) => return Ok(sequence),
                    Err(refusal) if refusal.code == Code::Unavailable => refusal.message,
                    Err(refusal) => return Err(refusal.context(format!("store on {subject} at {}", self.link.url))),
                },
                Ok(Err(Unanswered::Refused(status))) => return Err(status),
                Ok(Err(Unanswered::Nobody)) => "no stream takes the subject".to_owned(),
                Ok(Err(Unanswered::Lost)) => "the connection was lost".to_owned(),
                Err(_elapsed) => "no acknowledgement came".to_owned(),
            };
            self.look_again(stream);
            let pause = backoff.next();
            if Instant::now() + pause >= deadline {
                return Err(Status::unavailable(format!(
                    "{subject} was not stored by the NATS server at {} within {limit:?}: {why}",
                    self.link.url
                )));
            }
            tracing::debug!(subject, why, "publish again");
            tokio::time::sleep(pause).await;
        }
    }
}

/// Reads JetStream's answer to a publish.
fn read_ack(payload: &[u8]) -> Result<u64, Status> {
    let Ok(ack) = serde_json::from_slice::<Value>(payload) else {
        return Err(Status::internal("the acknowledgement is not JSON; does something else answer on this subject?"));
    };
    let Some(error) = ack.get("error") else {
        return ack
            .get("seq")
            .and_then(Value::as_u64)
            .ok_or_else(|| Status::internal("the acknowledgement has no sequence"));
    };
    let number = |name| error.get(name).and_then(Value::as_u64).unwrap_or_default();
    let text = error.get("description").and_then(Value::as_str).unwrap_or("unknown error").to_owned();
    Err(match (number("err_code"), number("code")) {
        (code, _) if no_room(code) => Status::resource_exhausted(format!("JetStream has no room: {text}")),
        (STORE_FAILED, _) => Status::resource_exhausted(format!("the stream takes no more: {text}")),
        (_, 503) => Status::unavailable(text),
        _ => Status::internal(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_read() {
        assert_eq!(read_ack(br#"{"stream":"S","seq":7}"#).unwrap(), 7);
        let full = br#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"S","seq":0}"#;
        assert_eq!(read_ack(full).unwrap_err().code, Code::ResourceExhausted);
        let limited =
            br#"{"error":{"code":400,"err_code":10002,"description":"resource limits exceeded for account"}}"#;
        assert_eq!(read_ack(limited).unwrap_err().code, Code::ResourceExhausted);
        let away =
            br#"{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}"#;
        assert_eq!(read_ack(away).unwrap_err().code, Code::Unavailable);
        assert_eq!(read_ack(b"hello").unwrap_err().code, Code::Internal);
    }
}
