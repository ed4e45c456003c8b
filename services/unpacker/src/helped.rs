//! How long the thread of a layer waited for those that make its files, and what these were at meanwhile. Kept by the thread:
//! the one that waits is the one that tells ([`pipeline`](crate::pipeline)).

use std::cell::Cell;

use berth_telemetry::effort::Effort;

thread_local! {
    static HELP: Cell<Effort> = Cell::default();
}

/// This thread waited.
pub(crate) fn waited(effort: Effort) {
    HELP.with(|help| {
        let mut sum = help.get();
        sum.add(effort);
        help.set(sum);
    });
}

/// A new layer begins.
pub(crate) fn forget() {
    HELP.take();
}

/// All waits since then.
pub(crate) fn take() -> Effort {
    HELP.take()
}
