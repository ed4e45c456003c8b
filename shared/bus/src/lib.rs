//! The bus on which the services meet: three verbs (call, job, event), one API, two homes (in-process and NATS).
//!
//! - **call**: a request and its reply. The message names its subject ([`Call`]); replicas of a service share the calls.
//! - **job**: work that is done at least once by any worker of its kind ([`Job`]), with progress, retries and a verdict.
//! - **event**: a fact ([`BusEvent`]), stored before [`Bus::publish`] returns, seen by all whose filter matches.
//!
//! What holds in both homes, and is checked by one suite (`tests/suite.rs`):
//!
//! - Messages are encoded, sizes are held to the same bound (1 MiB unless the server says otherwise), errors keep their
//!   code and message.
//! - A caller may go away at any time; the handler is not stopped by it (unless it only asks: `Watch...`, `Read...`), but can
//!   know it ([`caller_gone`]). A submitter
//!   that goes away cancels its job.
//! - Work may be done more than once (a lost connection, a worker that died); handlers are idempotent.
//! - Nothing is unbounded: requests in flight, waiting jobs, attempts, and every wait has a limit.
//!
//! This is the only crate that knows async-nats. Nobody else spells a subject.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod admission;
mod attempt;
mod backoff;
mod bus;
mod call;
mod caller;
mod dead;
mod endpoint;
mod event;
mod frame;
mod guarded;
mod job;
mod local;
mod nats;
mod options;
mod queue;
mod security;
mod serving;
mod subject;
mod trace;
mod users;
mod verdict;

pub use berth_wire::{Call, Job};
pub use bus::Bus;
pub use caller::caller_gone;
pub use dead::DeadLetter;
pub use event::{BusEvent, EventStream};
pub use job::{JobContext, JobHandle, JobUpdate};
pub use options::{DEFAULT_PREFIX, NatsOptions};
pub use queue::{QueueState, WorkerState};
pub use security::NatsSecurity;
pub use serving::Serving;
pub use trace::traceparent;
pub use users::{Permissions, Role, UserKey, permissions, users_conf};
