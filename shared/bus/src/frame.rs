//! What a message looks like on the way: protobuf bodies, and a closed set of headers that carry errors and limits.
//!
//! Both homes encode and decode, so that a message that works in one process works over NATS too. This is the only
//! file that knows how an error crosses the wire: header `berth-code` with the code's number, the message as the body.

use berth_model::{Code, Status};
use bytes::Bytes;
use prost::Message;

use crate::trace::Headers;

/// Number of the code of an error; its message is the body.
pub(crate) const CODE: &str = "berth-code";
/// Present when the bus itself, and not the handler, turned the request away: another replica may take it.
pub(crate) const AGAIN: &str = "berth-again";
/// How many milliseconds the caller is going to wait.
pub(crate) const LIMIT: &str = "berth-limit-ms";
/// Marks a sign of life of the replica that is at work on a request; the answer is still to come.
pub(crate) const WORKING: &str = "berth-working";
/// Identity of a job, in the stream and in the subjects of its signals.
pub(crate) const JOB_ID: &str = "berth-job-id";
/// The idempotency key of a job, for people who look at the stream.
pub(crate) const JOB_KEY: &str = "berth-job-key";
/// Marks a job that takes next to nothing of a worker.
pub(crate) const JOB_SMALL: &str = "berth-job-small";
/// Marks a job that was in the stream before: it got lost, or was given up and put back.
pub(crate) const JOB_AGAIN: &str = "berth-job-again";
/// When a job was handed in, in microseconds since 1970; only with traces.
pub(crate) const SUBMITTED: &str = "berth-submitted-us";
/// Why a job was given up, in its dead letter.
pub(crate) const REASON: &str = "berth-reason";
/// How often a job was handed out, in its dead letter.
pub(crate) const ATTEMPTS: &str = "berth-attempts";
/// What a job's signal is: `alive`, `progress`, `done` or `failed`.
pub(crate) const SIGNAL: &str = "berth-signal";

/// The payload bound of the in-process home: NATS's default, so that what is too large there is too large here.
pub(crate) const LOCAL_MAX_PAYLOAD: usize = 1024 * 1024;
/// What headers may take of the payload bound.
pub(crate) const HEADER_ROOM: usize = 8 * 1024;

/// The answer to one request.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The handler's reply, encoded.
    Done(Bytes),
    /// The handler's error.
    Failed(Status),
    /// The bus did not run the handler to its end, and why; a repeated request may be served.
    Again(String),
}

impl Reply {
    /// The reply as headers and body.
    pub(crate) fn into_parts(self) -> (Headers, Bytes) {
        match self {
            Reply::Done(body) => (Headers::new(), body),
            Reply::Failed(status) => failure(status),
            Reply::Again(why) => (vec![(AGAIN.to_owned(), "1".to_owned())], Bytes::from(why)),
        }
    }

    /// Reads what [`Reply::into_parts`] wrote; `header` looks a header up.
    pub(crate) fn from_parts(header: impl Fn(&str) -> Option<String>, body: Bytes) -> Self {
        if header(AGAIN).is_some() {
            return Reply::Again(String::from_utf8_lossy(&body).into_owned());
        }
        match header(CODE) {
            Some(code) => Reply::Failed(read_failure(&code, &body)),
            None => Reply::Done(body),
        }
    }
}

/// An error as headers and body.
pub(crate) fn failure(status: Status) -> (Headers, Bytes) {
    (vec![(CODE.to_owned(), status.code.number().to_string())], Bytes::from(status.message))
}

/// Reads what [`failure`] wrote.
pub(crate) fn read_failure(code: &str, body: &[u8]) -> Status {
    let code = code.parse().map_or(Code::Unknown, Code::from_number);
    Status::new(code, String::from_utf8_lossy(body))
}

/// Encodes `message` and holds it to `max_payload` (of which headers take [`HEADER_ROOM`]); `too_large` is the code of
/// the refusal and `what` names the message in it.
pub(crate) fn encode<M: Message>(
    message: &M,
    max_payload: usize,
    too_large: Code,
    what: &str,
) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    check_size(length, max_payload, too_large, what)?;
    Ok(Bytes::from(message.encode_to_vec()))
}

/// Refuses a body that would not pass.
pub(crate) fn check_size(length: usize, max_payload: usize, too_large: Code, what: &str) -> Result<(), Status> {
    let bound = max_payload.saturating_sub(HEADER_ROOM);
    if length > bound {
        let why = format!(
            "{what} takes {length} bytes and the bus carries at most {bound} (max_payload {max_payload}); large data goes by the byte path"
        );
        return Err(Status::new(too_large, why));
    }
    Ok(())
}

/// Decodes a message; `what` names it in the error.
pub(crate) fn decode<M: Message + Default>(body: Bytes, what: &str) -> Result<M, Status> {
    M::decode(body).map_err(|error| {
        Status::invalid_argument(format!(
            "{what} is not what its type says: {error}; are both sides the same version of berth?"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(reply: Reply) -> Reply {
        let (headers, body) = reply.into_parts();
        Reply::from_parts(|name| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()), body)
    }

    #[test]
    fn replies_cross_the_wire() {
        assert!(matches!(there_and_back(Reply::Done(Bytes::from_static(b"x"))), Reply::Done(body) if body == "x"));
        assert!(matches!(there_and_back(Reply::Again("busy".into())), Reply::Again(why) if why == "busy"));
        let status = Status::already_exists("a name; with \"odd\"\nletters ü");
        assert!(matches!(there_and_back(Reply::Failed(status.clone())), Reply::Failed(back) if back == status));
    }

    /// Services of different versions talk to one another: these words never change.
    #[test]
    fn headers_are_what_they_were() {
        let parts = |reply: Reply| {
            let (headers, body) = reply.into_parts();
            let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            (headers.join(", "), String::from_utf8_lossy(&body).into_owned())
        };
        let text = |headers: &str, body: &str| (headers.to_owned(), body.to_owned());
        assert_eq!(parts(Reply::Done(Bytes::from_static(b"x"))), text("", "x"));
        assert_eq!(parts(Reply::Again("busy".into())), text("berth-again: 1", "busy"));
        assert_eq!(parts(Reply::Failed(Status::unavailable("away"))), text("berth-code: 14", "away"));
        assert_eq!(
            [LIMIT, WORKING, JOB_ID, JOB_KEY, SIGNAL, REASON, ATTEMPTS],
            [
                "berth-limit-ms",
                "berth-working",
                "berth-job-id",
                "berth-job-key",
                "berth-signal",
                "berth-reason",
                "berth-attempts"
            ]
        );
    }

    #[test]
    fn a_strange_code_is_unknown() {
        assert_eq!(read_failure("ninety", b"m").code, Code::Unknown);
    }
}
