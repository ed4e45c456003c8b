//! Dead letters: jobs that workers gave up on. They are kept for a while, for a person to look at and to put back.
//!
//! An error that is an answer (no such manifest, not permitted) is not among them: its submitter has it, and another try
//! ends the same way. A dead letter is a job whose tries are used up, whose workers died of it, or that met a fault of ours.

use std::time::{Duration, SystemTime};

use berth_model::{Code, Status};
use bytes::Bytes;

use crate::trace::Headers;

/// So many are kept; then the oldest goes.
pub(crate) const MOST: usize = 1000;
/// So long are they kept (over NATS; in-process until the process ends).
pub(crate) const AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A job that workers gave up on.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The job's id.
    pub id: String,
    /// Its queue.
    pub kind: String,
    /// Its idempotency key, which says what the work was about.
    pub key: String,
    /// What the last attempt ended with.
    pub status: Status,
    /// How often it was handed out.
    pub attempts: u32,
    /// When it was given up.
    pub at: SystemTime,
    /// The job itself, encoded.
    pub body: Bytes,
    pub(crate) headers: Headers,
}

/// Whether a job that ended so is worth keeping.
pub(crate) fn is_dead(status: &Status) -> bool {
    status.code.is_passing() || matches!(status.code, Code::ResourceExhausted | Code::Internal | Code::Unknown)
}

/// There is none by that id.
pub(crate) fn unknown(id: &str) -> Status {
    Status::not_found(format!("no dead letter {id}; it was put back, removed, or is too old (see `berth jobs ls`)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_no_dead_letters() {
        for (status, dead) in [
            (Status::unavailable("x"), true),
            (Status::internal("x"), true),
            (Status::resource_exhausted("x"), true),
            (Status::not_found("x"), false),
            (Status::cancelled("x"), false),
            (Status::permission_denied("x"), false),
        ] {
            assert_eq!(is_dead(&status), dead, "{status}");
        }
    }
}
