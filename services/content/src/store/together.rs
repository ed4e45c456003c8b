//! One flush for all who wait for the same directory: a hundred small blobs that end at once need not flush its names a
//! hundred times, one after the other.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
};

/// Flushes of one directory.
#[derive(Debug, Default)]
pub(crate) struct Together {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// A flush is under way. Who comes now may have made a name that it misses, and waits for the next one.
    running: bool,
    next: Arc<Round>,
}

/// A flush, and how it ended: all it was made for are told the same. Asking the disk again would prove nothing, as an error
/// is told only once.
#[derive(Debug, Default)]
struct Round(OnceLock<Result<(), (io::ErrorKind, Option<i32>)>>);

impl Together {
    /// Returns when a flush that began after this call has ended; that flush is `flush` of one of its callers.
    pub(crate) fn run(&self, flush: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        let mine = Arc::clone(&state.next);
        while state.running {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
            if let Some(done) = mine.0.get() {
                return again(done);
            }
        }
        // Nobody is at it, and our round has not been: it is ours to make.
        state.running = true;
        state.next = Arc::default();
        drop(state);
        let running = Running(self);
        let done = flush();
        let told = match &done {
            Ok(()) => Ok(()),
            Err(error) => Err((error.kind(), error.raw_os_error())),
        };
        let _first = mine.0.set(told);
        drop(running);
        done
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the others, also if the flush panics: then one of them makes it.
struct Running<'a>(&'a Together);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state().running = false;
        self.0.ended.notify_all();
    }
}

fn again(done: &Result<(), (io::ErrorKind, Option<i32>)>) -> io::Result<()> {
    (*done).map_err(|(kind, number)| number.map_or_else(|| kind.into(), io::Error::from_raw_os_error))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use super::*;

    #[test]
    fn who_comes_during_a_flush_shares_the_next_one() {
        let (together, flushes) = (Together::default(), AtomicUsize::new(0));
        let (begun, wait_for_begun) = mpsc::channel();
        let (go_on, wait_to_go_on) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let (together, flushes) = (&together, &flushes);
            scope.spawn(move || {
                let done = together.run(|| {
                    begun.send(()).unwrap();
                    wait_to_go_on.recv().unwrap();
                    flushes.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                });
                assert!(done.is_ok());
            });
            wait_for_begun.recv().unwrap();
            let there = Arc::new(Barrier::new(11));
            let waiting: Vec<_> = (0..10)
                .map(|_| {
                    let there = Arc::clone(&there);
                    scope.spawn(move || {
                        there.wait();
                        together.run(|| {
                            flushes.fetch_add(1, Ordering::SeqCst);
                            Err(io::Error::from_raw_os_error(5))
                        })
                    })
                })
                .collect();
            there.wait();
            // All hold the round of the next flush: its owner here, the state, and those ten.
            berth_testing::wait::wait_for(
                "ten to wait",
                std::time::Duration::from_secs(10),
                || match Arc::strong_count(&together.state().next) {
                    11 => berth_testing::wait::Seen::Yes(()),
                    other => berth_testing::wait::Seen::NotYet(other.to_string()),
                },
            );
            go_on.send(()).unwrap();
            for one in waiting {
                assert_eq!(one.join().unwrap().unwrap_err().raw_os_error(), Some(5), "the error is for all");
            }
        });
        assert_eq!(flushes.into_inner(), 2);
        assert!(together.run(|| Ok(())).is_ok());
    }

    #[test]
    fn a_panic_keeps_nobody_waiting() {
        let together = Together::default();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| together.run(|| panic!("a test"))));
        assert!(panicked.is_err());
        assert!(together.run(|| Ok(())).is_ok());
    }
}
