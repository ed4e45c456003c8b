//! The crash test: the real `berth serve` on a store of its own, killed at random moments and at fail points, or cut off
//! with its disk, while it pulls, unpacks and deletes; started again; and held to what it had said.
//!
//! What it had said is kept by the [`oracle`]: the end of each command that succeeded is a promise. What was under way may
//! have happened or not, but not in part. [`check`] compares that with what the store shows and with its files. All that a
//! run decides comes from its seed; the moments at which processes meet do not, so a seed finds a bug again often, not
//! always.
//!
//! `scripts/crash` runs it for as long as one likes; a short run is among the tests.

mod catalog;
mod check;
mod daemon;
mod ground;
mod look;
mod ops;
mod oracle;
mod points;
mod register;
mod run;

pub use self::{
    ground::Kind,
    points::{Accident, each_point},
    run::{Plan, Report, run},
};
