//! Leaving at once: what a process still holds when its work is done, the kernel takes back.
//!
//! Ending each thread, closing both stores and giving back all memory piece by piece takes longer than all records of a pull.
//! None of it is needed: what was acknowledged is on disk, locks go with the process, and the stores are made to be left so at
//! any time.

use std::io::Write as _;

/// How a command ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    /// Threads may still have something to do: those that end soon are waited for.
    With(std::process::ExitCode),
    /// Well, and nothing that goes on in this process is of use to anybody.
    Wholly,
}

impl From<std::process::ExitCode> for Ended {
    fn from(code: std::process::ExitCode) -> Self {
        Self::With(code)
    }
}

/// Ends the process, successfully. What was printed is out before.
#[expect(unsafe_code, reason = "no safe function ends a process without running what C libraries left for its end")]
pub(crate) fn at_once() -> ! {
    // What cannot be printed now could not be printed later either.
    drop(std::io::stdout().flush());
    // SAFETY: it takes a number and does not return. Threads end wherever they are, as they do in any crash.
    unsafe { libc::_exit(0) }
}
