//! Waiting without sleeping: ask until a condition holds, and say what was seen last when it never did.

use std::{
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

/// Between two questions. Short, so that a test takes as long as what it waits for.
const POLL: Duration = Duration::from_millis(10);

/// What a question was answered with: the thing waited for, or what is there instead.
pub enum Seen<T, D> {
    /// It is so.
    Yes(T),
    /// Not yet; for the report.
    NotYet(D),
}

/// Asks until the answer is [`Seen::Yes`].
///
/// # Panics
///
/// After `limit`, with what was seen last.
pub fn wait_for<T, D: Debug>(what: &str, limit: Duration, mut ask: impl FnMut() -> Seen<T, D>) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            Seen::Yes(thing) => return thing,
            Seen::NotYet(last) => {
                assert!(begun.elapsed() < limit, "waited {limit:?} for {what}; seen last: {last:?}");
            }
        }
        thread::sleep(POLL);
    }
}

/// Asks until the condition holds; `seen` is what the report shows when it never does.
///
/// # Panics
///
/// After `limit`.
pub fn wait_until<D: Debug>(what: &str, limit: Duration, mut holds: impl FnMut() -> bool, mut seen: impl FnMut() -> D) {
    wait_for(what, limit, || if holds() { Seen::Yes(()) } else { Seen::NotYet(seen()) });
}
