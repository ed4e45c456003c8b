//! What becomes of a job after one attempt at it: the rule both homes follow.

use std::time::Duration;

use berth_model::{Code, Status};
use bytes::Bytes;

use crate::backoff::jittered;

/// Attempts at a job whose error may pass.
pub(crate) const MAX_ATTEMPTS: u32 = 5;
/// Times a job is handed out at all. More than the attempts, because a worker that stops or dies in the middle costs one
/// too; bounded, because the job may be what kills them.
pub(crate) const MAX_DELIVERIES: u32 = 10;

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// The decision.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Finished, with this outcome.
    Done(Bytes),
    /// Again, by any worker, after this pause.
    Retry(Duration, Status),
    /// Never again.
    Reject(Status),
}

/// Judges the end of attempt number `attempt` (the first is 1) of a job; `last`: it was cancelled, or its handler gave up.
pub(crate) fn judge(result: Result<Bytes, Status>, attempt: u32, last: bool) -> Verdict {
    match result {
        Ok(outcome) => Verdict::Done(outcome),
        Err(status) if last => Verdict::Reject(status),
        Err(status) if !status.code.is_passing() => Verdict::Reject(status),
        Err(status) if attempt >= MAX_ATTEMPTS => {
            Verdict::Reject(Status::new(status.code, format!("{} (gave up after {attempt} attempts)", status.message)))
        }
        Err(status) => Verdict::Retry(jittered(pause_after(attempt)), status),
    }
}

/// What to say of a job that was handed out too often without coming to an end.
pub(crate) fn worn_out(kind: &str) -> Status {
    Status::new(
        Code::Internal,
        format!(
            "gave up on this `{kind}` job: {MAX_DELIVERIES} times its worker stopped before it was finished; see the workers' logs"
        ),
    )
}

fn pause_after(attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    (FIRST_RETRY * 2_u32.pow(doublings)).min(LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_as_a_table() {
        let passing = || Err(Status::unavailable("registry"));
        let final_ = || Err(Status::not_found("manifest"));
        assert!(matches!(judge(Ok(Bytes::new()), 9, true), Verdict::Done(_)));
        for attempt in 1..MAX_ATTEMPTS {
            assert!(matches!(judge(passing(), attempt, false), Verdict::Retry(..)), "attempt {attempt}");
        }
        assert!(
            matches!(judge(passing(), MAX_ATTEMPTS, false), Verdict::Reject(s) if s.code == Code::Unavailable && s.message.contains("5 attempts"))
        );
        assert!(matches!(judge(passing(), 1, true), Verdict::Reject(_)));
        assert!(matches!(judge(final_(), 1, false), Verdict::Reject(s) if s.code == Code::NotFound));
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let pauses: Vec<_> = [1, 2, 3, 4, 5, 6, 60].map(|n| pause_after(n).as_millis()).into();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
    }
}
