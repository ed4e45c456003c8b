//! What a worker tells a submitter about a job, and how it looks on the wire.

use async_nats::{HeaderMap, Message};
use berth_model::Status;
use bytes::Bytes;

use super::{header, to_nats};
use crate::frame;

/// News of one job.
#[derive(Debug)]
pub(super) enum Signal {
    /// Somebody works on it, or it pauses before a retry.
    Alive,
    /// The latest progress, encoded.
    Progress(Bytes),
    /// The end.
    Verdict(Result<Bytes, Status>),
}

impl Signal {
    pub(super) fn into_parts(self) -> (HeaderMap, Bytes) {
        let (kind, headers, body) = match self {
            Signal::Alive => ("alive", Vec::new(), Bytes::new()),
            Signal::Progress(body) => ("progress", Vec::new(), body),
            Signal::Verdict(Ok(body)) => ("done", Vec::new(), body),
            Signal::Verdict(Err(status)) => {
                let (headers, body) = frame::failure(status);
                ("failed", headers, body)
            }
        };
        let mut headers = to_nats(&headers);
        headers.insert(frame::SIGNAL, kind);
        (headers, body)
    }

    /// A signal of a kind that is not known yet is a sign of life.
    pub(super) fn read(message: Message) -> Self {
        let headers = message.headers.as_ref();
        match header(headers, frame::SIGNAL).as_deref() {
            Some("progress") => Signal::Progress(message.payload),
            Some("done") => Signal::Verdict(Ok(message.payload)),
            Some("failed") => {
                let code = header(headers, frame::CODE).unwrap_or_default();
                Signal::Verdict(Err(frame::read_failure(&code, &message.payload)))
            }
            _ => Signal::Alive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Services of different versions talk to one another: these words never change.
    #[test]
    fn words_are_what_they_were() {
        for (signal, word, code, body) in [
            (Signal::Alive, "alive", None, ""),
            (Signal::Progress(Bytes::from_static(b"p")), "progress", None, "p"),
            (Signal::Verdict(Ok(Bytes::from_static(b"o"))), "done", None, "o"),
            (Signal::Verdict(Err(Status::not_found("n"))), "failed", Some("5"), "n"),
        ] {
            let (headers, said) = signal.into_parts();
            assert_eq!(header(Some(&headers), "berth-signal").as_deref(), Some(word));
            assert_eq!(header(Some(&headers), "berth-code").as_deref(), code);
            assert_eq!(said, body);
        }
    }
}
