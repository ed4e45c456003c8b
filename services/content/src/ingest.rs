//! One ingest while it is open: who may write, how far it is written and hashed. The rules; no disk, no clock of its own.

use std::time::{Duration, Instant};

use berth_model::{Digest, Status};

/// The writer of an ingest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    session: String,
    last_seen: Instant,
}

/// What is known of an open ingest.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) reference: String,
    pub(crate) expected: Option<Digest>,
    pub(crate) total: u64,
    /// Never 0; changes when the data begins anew.
    pub(crate) generation: u64,
    pub(crate) written: u64,
    /// A commit is going on: nobody takes the seat meanwhile.
    pub(crate) committing: bool,
    seat: Option<Seat>,
}

impl Flight {
    pub(crate) fn new(reference: String, expected: Option<Digest>, total: u64, written: u64, generation: u64) -> Self {
        Self { reference, expected, total, generation, written, committing: false, seat: None }
    }

    /// Somebody writes it.
    pub(crate) fn is_active(&self, now: Instant, silence: Duration) -> bool {
        self.committing
            || self.seat.as_ref().is_some_and(|seat| now.saturating_duration_since(seat.last_seen) < silence)
    }

    /// Takes the writer's seat: free, or its holder silent for too long. UNAVAILABLE otherwise. Answers whether somebody
    /// lost it, who may come back and write on without knowing.
    pub(crate) fn sit(&mut self, session: &str, now: Instant, silence: Duration) -> Result<bool, Status> {
        if self.is_active(now, silence) {
            return Err(Status::unavailable(format!(
                "ingest {} is locked: somebody else is writing it",
                self.reference
            )));
        }
        Ok(self.seat.replace(Seat { session: session.to_owned(), last_seen: now }).is_some())
    }

    /// Checks that a call comes from the writer, and takes it as a sign of life. ABORTED otherwise.
    pub(crate) fn check(&mut self, session: &str, now: Instant) -> Result<(), Status> {
        match &mut self.seat {
            Some(seat) if seat.session == session => {
                seat.last_seen = now;
                Ok(())
            }
            _ => Err(Status::aborted(format!("ingest {}: another writer has taken over", self.reference))),
        }
    }

    /// Gives the seat up.
    pub(crate) fn stand(&mut self) {
        self.seat = None;
    }

    /// The writer is so far. It cannot be further than the file is long, nor go back.
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

    /// Begins anew.
    pub(crate) fn restart(&mut self, generation: u64) {
        self.generation = generation;
        self.written = 0;
    }

    /// Whether hashed bytes are what was promised; names what differs. FAILED_PRECONDITION.
    pub(crate) fn verify(
        &self,
        size: u64,
        expected: Option<&Digest>,
        hashed: u64,
        digest: &Digest,
    ) -> Result<(), Status> {
        let wanted = if size > 0 { size } else { self.total };
        if wanted > 0 && wanted != hashed {
            return Err(Status::failed_precondition(format!(
                "ingest {} has {hashed} bytes, {wanted} were promised",
                self.reference
            )));
        }
        match expected.or(self.expected.as_ref()) {
            Some(expected) if expected != digest => Err(Status::failed_precondition(format!(
                "ingest {}: its bytes have digest {digest}, promised was {expected}",
                self.reference
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_model::Code;

    const SILENCE: Duration = Duration::from_secs(30);

    fn flight() -> Flight {
        Flight::new("layer-x".into(), Some(Digest::of(b"abc")), 3, 0, 7)
    }

    #[test]
    fn one_writer_until_it_is_silent() {
        let (mut flight, start) = (flight(), Instant::now());
        assert!(!flight.sit("a", start, SILENCE).unwrap());
        assert_eq!(flight.sit("b", start + SILENCE / 2, SILENCE).unwrap_err().code, Code::Unavailable);
        flight.check("a", start + SILENCE / 2).unwrap();
        assert!(flight.sit("b", start + SILENCE, SILENCE).is_err(), "the sign of life counts");
        assert!(flight.sit("b", start + SILENCE * 2, SILENCE).unwrap(), "somebody lost the seat");
        assert_eq!(flight.check("a", start + SILENCE * 2).unwrap_err().code, Code::Aborted);
        flight.stand();
        assert!(!flight.is_active(start + SILENCE * 2, SILENCE));
        assert!(flight.check("b", start).is_err());
    }

    #[test]
    fn progress_is_believed_only_within_the_file() {
        let mut flight = flight();
        flight.advance(2, 3).unwrap();
        assert_eq!(flight.advance(4, 3).unwrap_err().code, Code::OutOfRange);
        assert!(flight.advance(1, 3).is_err());
        flight.restart(8);
        flight.advance(1, 1).unwrap();
    }

    #[test]
    fn what_differs_is_named() {
        let (flight, right, wrong) = (flight(), Digest::of(b"abc"), Digest::of(b"abd"));
        flight.verify(3, Some(&right), 3, &right).unwrap();
        flight.verify(0, None, 3, &right).unwrap();
        for (hashed, digest, named) in [(2, right, "2 bytes, 3 were promised"), (3, wrong, "promised was")] {
            let error = flight.verify(0, None, hashed, &digest).unwrap_err();
            assert_eq!(error.code, Code::FailedPrecondition);
            assert!(error.message.contains(named) && error.message.contains("layer-x"), "{error}");
        }
    }
}
