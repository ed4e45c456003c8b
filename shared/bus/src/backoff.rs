//! How long to wait before the next try: doubling, capped, with jitter so that many waiters do not march in step.

use std::time::Duration;

/// The pauses of one waiter.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    /// Begins at about `first` and never waits longer than `most`.
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    /// For a service or a server that is expected within moments.
    pub(crate) fn quick() -> Self {
        Self::new(Duration::from_millis(10), Duration::from_millis(500))
    }

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = jittered(self.next);
        self.next = (self.next * 2).min(self.most);
        pause
    }
}

/// Somewhere between half of `pause` and all of it.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_stay_within_the_jitter() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(40));
        for most in [10, 20, 40, 40] {
            let pause = backoff.next();
            assert!(
                pause >= Duration::from_millis(most / 2) && pause <= Duration::from_millis(most),
                "{pause:?} of {most} ms"
            );
        }
    }
}
