//! One ingest: who may write, how far it is written, whether it is what was promised. The rules; no disk, no clock of its
//! own.

use std::time::{Duration, Instant};

use berth_model::{Digest, Status};

/// The writer of an ingest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seat {
    session: String,
    last_seen: Instant,
}

/// What is known of an ingest.
#[derive(Clone, Debug)]
pub(crate) struct Ingest {
    pub(crate) reference: String,
    pub(crate) expected: Option<Digest>,
    /// 0 if not known.
    pub(crate) total: u64,
    /// Never 0; changes when the data begins anew, or moves to another file.
    pub(crate) generation: u64,
    pub(crate) written: u64,
    /// The disk refused some of its bytes, and may deny it the next time it is asked: they cannot be trusted.
    pub(crate) spoiled: Option<Status>,
    /// A commit is going on, however long the writer is silent.
    committing: bool,
    seat: Option<Seat>,
}

impl Ingest {
    pub(crate) fn new(reference: String, expected: Option<Digest>, total: u64, written: u64, generation: u64) -> Self {
        Self { reference, expected, total, generation, written, spoiled: None, committing: false, seat: None }
    }

    /// Somebody writes it.
    pub(crate) fn is_active(&self, now: Instant, silence: Duration) -> bool {
        self.committing || self.silent_at(silence).is_some_and(|silent| now < silent)
    }

    /// When its writer, if it has one, will have been silent for too long, should it stay silent.
    pub(crate) fn silent_at(&self, silence: Duration) -> Option<Instant> {
        if self.committing { None } else { self.seat.as_ref().map(|seat| seat.last_seen + silence) }
    }

    /// Takes the writer's seat: free, or its holder silent for too long. UNAVAILABLE otherwise.
    pub(crate) fn sit(&mut self, session: &str, now: Instant, silence: Duration) -> Result<(), Status> {
        if self.is_active(now, silence) {
            return Err(self.locked());
        }
        self.seat = Some(Seat { session: session.to_owned(), last_seen: now });
        Ok(())
    }

    /// What a second writer is told.
    pub(crate) fn locked(&self) -> Status {
        Status::unavailable(format!("ingest {} is locked: somebody else is writing it", self.reference))
    }

    /// Checks that a call comes from the writer, and takes it as a sign of life. ABORTED otherwise.
    pub(crate) fn check(&mut self, session: &str, now: Instant) -> Result<(), Status> {
        match &mut self.seat {
            Some(seat) if seat.session == session => {
                seat.last_seen = now;
                Ok(())
            }
            _ => Err(lost(&self.reference)),
        }
    }

    /// Gives the seat up.
    pub(crate) fn stand(&mut self) {
        self.seat = None;
    }

    /// A commit begins.
    pub(crate) fn begin_commit(&mut self) {
        self.committing = true;
    }

    /// A commit failed: its writer has the seat, and as long as ever to say what it will do.
    pub(crate) fn end_commit(&mut self, now: Instant) {
        self.committing = false;
        if let Some(seat) = &mut self.seat {
            seat.last_seen = now;
        }
    }

    /// Learns what its writer says of it. FAILED_PRECONDITION: it is for another digest.
    pub(crate) fn promise(&mut self, expected: Option<Digest>, total: u64) -> Result<(), Status> {
        if let (Some(asked), Some(known)) = (expected, self.expected)
            && asked != known
        {
            return Err(Status::failed_precondition(format!(
                "ingest {} is for {known}, not for {asked}",
                self.reference
            )));
        }
        self.expected = self.expected.or(expected);
        self.total = if self.total == 0 { total } else { self.total };
        Ok(())
    }

    /// The writer is so far. It cannot be further than the file is long, nor go back. OUT_OF_RANGE.
    pub(crate) fn advance(&mut self, written: u64, length: u64) -> Result<(), Status> {
        if written > length || written < self.written {
            return Err(Status::out_of_range(format!(
                "ingest {}: {written} bytes were reported, the file has {length} and {} were reported before",
                self.reference, self.written
            )));
        }
        self.written = written;
        Ok(())
    }

    /// Another file, of which `written` bytes are there.
    pub(crate) fn begin_anew(&mut self, generation: u64, written: u64) {
        self.generation = generation;
        self.written = written;
        self.spoiled = None;
    }

    /// Whether it may be committed: all of it was reported, and the disk has not failed it. FAILED_PRECONDITION, or what the
    /// disk said.
    pub(crate) fn complete(&self, length: u64) -> Result<(), Status> {
        if let Some(status) = &self.spoiled {
            return Err(status.clone().context(format!("ingest {} must begin anew", self.reference)));
        }
        if length != self.written {
            return Err(Status::failed_precondition(format!(
                "ingest {} has {length} bytes, {} were reported",
                self.reference, self.written
            )));
        }
        Ok(())
    }

    /// Whether the hashed bytes are what was promised, at the beginning and now; names what differs. FAILED_PRECONDITION.
    pub(crate) fn verify(&self, size: u64, expected: Option<&Digest>, digest: &Digest) -> Result<(), Status> {
        let (reference, written) = (&self.reference, self.written);
        let promised = expected.or(self.expected.as_ref());
        if let Some(wanted) = [size, self.total].into_iter().find(|wanted| *wanted > 0 && *wanted != written) {
            let named = promised.map(|promised| format!(", promised was {promised}")).unwrap_or_default();
            return Err(Status::failed_precondition(format!(
                "ingest {reference} has {written} bytes, {wanted} were promised (their digest is {digest}{named})"
            )));
        }
        match [expected, self.expected.as_ref()].into_iter().flatten().find(|wanted| *wanted != digest) {
            Some(wanted) => Err(Status::failed_precondition(format!(
                "ingest {reference}: its {written} bytes have digest {digest}, promised was {wanted}"
            ))),
            None => Ok(()),
        }
    }

    /// Whether no more bytes can make it what was promised when it was opened: it has as many as it shall, and they are wrong.
    pub(crate) fn is_hopeless(&self, size: u64, digest: &Digest) -> bool {
        self.expected.is_some_and(|expected| expected != *digest) && self.written >= self.total.max(size)
    }
}

/// What a writer is told that is not the writer any more.
pub(crate) fn lost(reference: &str) -> Status {
    Status::aborted(format!("ingest {reference}: another writer has taken over, or it was dropped"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::Code;

    const SILENCE: Duration = Duration::from_secs(30);

    fn ingest() -> Ingest {
        Ingest::new("layer-x".into(), Some(Digest::of(b"abc")), 3, 0, 7)
    }

    #[derive(Debug)]
    enum Does {
        Sits(&'static str),
        Says(&'static str),
        Stands,
        BeginsCommit,
        EndsCommit,
    }

    #[test]
    fn who_may_write() {
        use Does::*;
        const NO: Option<Code> = None;
        let life: &[(u64, Does, Option<Code>, bool)] = &[
            (0, Says("a"), Some(Code::Aborted), false),
            (0, Sits("a"), NO, true),
            (15, Sits("b"), Some(Code::Unavailable), true),
            (15, Says("a"), NO, true),
            (44, Sits("b"), Some(Code::Unavailable), true),
            (45, Sits("b"), NO, true),
            (45, Says("a"), Some(Code::Aborted), true),
            (46, BeginsCommit, NO, true),
            (100, Sits("c"), Some(Code::Unavailable), true),
            (101, EndsCommit, NO, true),
            (130, Sits("c"), Some(Code::Unavailable), true),
            (130, Says("b"), NO, true),
            (130, Stands, NO, false),
            (130, Says("b"), Some(Code::Aborted), false),
            (130, Sits("c"), NO, true),
        ];
        let (mut ingest, start) = (ingest(), Instant::now());
        for (second, does, refused, active) in life {
            let now = start + Duration::from_secs(*second);
            let mut done = Ok(());
            match does {
                Sits(session) => done = ingest.sit(session, now, SILENCE),
                Says(session) => done = ingest.check(session, now),
                Stands => ingest.stand(),
                BeginsCommit => ingest.begin_commit(),
                EndsCommit => ingest.end_commit(now),
            }
            assert_eq!(done.err().map(|status| status.code), *refused, "{second} s: {does:?}");
            assert_eq!(ingest.is_active(now, SILENCE), *active, "{second} s: {does:?}");
        }
        assert_eq!(ingest.silent_at(SILENCE), Some(start + Duration::from_secs(160)));
    }

    #[test]
    fn progress_is_believed_only_within_the_file() {
        let mut ingest = ingest();
        for (written, length, believed) in [(2, 3, true), (2, 3, true), (4, 3, false), (1, 3, false), (3, 3, true)] {
            let done = ingest.advance(written, length);
            assert_eq!(done.is_ok(), believed, "{written} of {length}: {done:?}");
        }
        ingest.begin_anew(8, 0);
        ingest.advance(1, 1).unwrap();
        assert_eq!((ingest.generation, ingest.written), (8, 1));
    }

    #[test]
    fn a_promise_is_learned_once() {
        let mut ingest = Ingest::new("layer-x".into(), None, 0, 0, 7);
        ingest.promise(None, 0).unwrap();
        ingest.promise(Some(Digest::of(b"abc")), 3).unwrap();
        ingest.promise(None, 9).unwrap();
        assert_eq!((ingest.expected, ingest.total), (Some(Digest::of(b"abc")), 3));
        assert_eq!(ingest.promise(Some(Digest::of(b"abd")), 3).unwrap_err().code, Code::FailedPrecondition);
    }

    #[test]
    fn what_differs_is_named() {
        let (right, wrong) = (Digest::of(b"abc"), Digest::of(b"abd"));
        let table = [
            (3, 3, Some(right), right, None),
            (3, 0, None, right, None),
            (2, 0, None, right, Some("2 bytes, 3 were promised")),
            (3, 4, None, right, Some("3 bytes, 4 were promised")),
            (3, 0, None, wrong, Some("promised was")),
            (3, 0, Some(wrong), right, Some("promised was")),
            (3, 0, Some(wrong), wrong, Some("promised was")),
        ];
        for (written, size, expected, digest, named) in table {
            let mut ingest = ingest();
            ingest.written = written;
            let done = ingest.verify(size, expected.as_ref(), &digest);
            let Some(named) = named else {
                done.unwrap();
                continue;
            };
            let error = done.unwrap_err();
            assert_eq!(error.code, Code::FailedPrecondition);
            let message = &error.message;
            assert!(message.contains(named) && message.contains("layer-x"), "{error}");
            assert!(message.contains(&digest.to_string()), "{error}");
        }
    }

    #[test]
    fn hopeless_is_only_what_is_long_enough_and_wrong() {
        let (right, wrong) = (Digest::of(b"abc"), Digest::of(b"abd"));
        for (written, size, digest, hopeless) in
            [(3, 3, wrong, true), (4, 0, wrong, true), (2, 3, wrong, false), (3, 4, wrong, false), (3, 3, right, false)]
        {
            let mut ingest = ingest();
            ingest.written = written;
            assert_eq!(ingest.is_hopeless(size, &digest), hopeless, "{written} of {size}");
        }
        assert!(!Ingest::new("x".into(), None, 0, 3, 7).is_hopeless(3, &wrong), "nothing was promised");
    }

    #[test]
    fn what_the_disk_refused_is_not_committed() {
        let mut ingest = ingest();
        ingest.written = 3;
        ingest.complete(3).unwrap();
        assert_eq!(ingest.complete(4).unwrap_err().code, Code::FailedPrecondition);
        ingest.spoiled = Some(Status::resource_exhausted("flush /x: no space"));
        let error = ingest.complete(3).unwrap_err();
        assert_eq!(error.code, Code::ResourceExhausted);
        assert!(error.message.contains("/x") && error.message.contains("layer-x"), "{error}");
        ingest.begin_anew(9, 3);
        ingest.complete(3).unwrap();
    }
}
