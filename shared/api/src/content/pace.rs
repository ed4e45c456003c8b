//! How fast a writer and its readers are: whether it may wait for them and lose nothing.
//!
//! One that is much faster would be far ahead again at once. One that is hardly faster might have to make up for the wait
//! later, when the readers have become faster than it is: so it goes on, to the disk.

use std::time::Duration;

use tokio::time::Instant;

/// So many times as fast as its readers a writer has to be.
const FASTER: f64 = 4.0;

#[derive(Debug)]
pub(super) struct Pace {
    begun: Instant,
    /// Where the readers were then.
    from: u64,
    /// Bytes written since.
    written: u64,
    /// Time in which the writer waited.
    waited: Duration,
}

impl Pace {
    /// Begins now, with readers that have had so much.
    pub(super) fn from(passed: u64) -> Self {
        Self { begun: Instant::now(), from: passed, written: 0, waited: Duration::ZERO }
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    pub(super) fn waited(&mut self, more: Duration) {
        self.waited += more;
    }

    /// Whether the writer, when it does not wait, is much faster than readers that have had so much by now.
    pub(super) fn is_faster(&self, passed: u64) -> bool {
        let took = self.begun.elapsed();
        let worked = took.saturating_sub(self.waited);
        let read = passed.saturating_sub(self.from) as f64;
        self.written as f64 * took.as_secs_f64() >= FASTER * read * worked.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_is_no_slowness() {
        let mut pace = Pace::from(1_000);
        pace.wrote(4_000);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(pace.is_faster(2_000), "4,000 a second and 1,000");
        assert!(!pace.is_faster(2_001));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!pace.is_faster(3_000), "2,000 and 1,000");
        pace.waited(Duration::from_secs(1));
        assert!(pace.is_faster(3_000), "still 4,000");
    }
}
