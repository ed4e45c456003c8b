//! Fail points: named places at which a test makes the real program die, or its disk fail.
//!
//! The environment variable [`VARIABLE`] orders them: `content.flush-dir=kill@3;kv.flush=enospc`. The process kills itself
//! when it comes to `content.flush-dir` for the third time, and the first flush of a store's log fails with "no space left".
//! `any` stands for every point: `any=kill@57` dies at the 57th point passed, whichever it is. `kv.flush=skip` leaves every
//! such flush out, as a bug would: it shows that a test of power cuts sees such a bug.
//!
//! What comes to pass is said on standard error.
//!
//! They are in every build, for the program that is killed in tests should be the one that is shipped. An unarmed point is
//! one relaxed load of a flag, and each stands beside a system call that costs a thousand times as much. What an order can do
//! its giver could do anyway: whoever sets the environment of a process may kill it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod order;
mod point;

use std::{
    io::{self, Write as _},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::order::{Action, Orders};
pub use crate::point::{Kind, Point};

/// The environment variable that orders what shall fail.
pub const VARIABLE: &str = "BERTH_FAILPOINTS";

// Of the process, not of a service: a process dies as a whole, and only tests set it.
static ARMED: AtomicBool = AtomicBool::new(false);
static ORDERS: OnceLock<Orders> = OnceLock::new();

/// Reads the orders from the environment; called once, by `main`, before any thread. An error names what is wrong.
pub fn arm() -> Result<(), String> {
    let Some(text) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let text = text.into_string().map_err(|text| format!("{VARIABLE} is not UTF-8: {}", text.display()))?;
    let orders = Orders::parse(&text).map_err(|wrong| format!("{VARIABLE}: {wrong}"))?;
    if ORDERS.set(orders).is_ok() {
        ARMED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Passes a point where the process may die.
#[inline]
pub fn pass(point: Point) {
    // An order to fail makes no sense here, and none is taken for this point.
    drop(check(point));
}

/// Passes a point where the process may die, or a step of the disk fail.
#[inline]
pub fn check(point: Point) -> io::Result<()> {
    wanted(point).map(drop)
}

/// Passes a point where the process may die, or a flush fail or be left out. `false`: it is to be left out.
#[inline]
pub fn wanted(point: Point) -> io::Result<bool> {
    if ARMED.load(Ordering::Relaxed) { strike(point) } else { Ok(true) }
}

#[cold]
fn strike(point: Point) -> io::Result<bool> {
    let ordered = ORDERS.get().and_then(|orders| orders.take(point));
    if let Some(action) = ordered {
        // Whoever ordered it can see that it came to pass; to others it is no news that they cannot be told.
        drop(writeln!(io::stderr(), "{VARIABLE}: {}: {action:?}", point.name()));
    }
    match ordered {
        None => Ok(true),
        Some(Action::Skip) => Ok(false),
        Some(Action::Fail(errno)) => Err(io::Error::from_raw_os_error(errno)),
        Some(Action::Kill) => die(),
    }
}

/// As `kill -9` from outside: no destructor, no handler, no buffer written out.
#[expect(unsafe_code, reason = "there is no safe way to signal oneself; kill and getpid take and touch no memory")]
fn die() -> ! {
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
    }
    loop {
        // The signal is on its way.
        std::thread::park();
    }
}
