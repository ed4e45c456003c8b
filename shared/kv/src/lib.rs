//! The key-value layer: typed tables over RocksDB, one writer, and an answer only when the change is on disk.
//!
//! - [`Db::read`] runs on a blocking thread over one consistent view. [`Db::write`] runs check-then-write closures one
//!   after the other on a thread of the database's own, so a check needs no lock and no retry; what queued meanwhile shares
//!   one flush of the write-ahead log (group commit), and answers come after it.
//! - [`Table`] gives rows their types: keys by an order-preserving code ([`Key`]), values as protobuf messages, whose
//!   field numbers are their version.
//! - One process holds a store; [`Db::open`] tells a second one who it is.
//!
//! This is the only crate that knows RocksDB.

#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod db;
mod failure;
mod format;
mod hold;
mod key;
mod layout;
mod logs;
mod numbers;
mod options;
mod store;
mod table;
mod tuning;
mod txn;
mod writer;

pub use db::Db;
pub use key::{Key, KeyReader, KeyWriter};
pub use options::{Durability, Options};
pub use table::Table;
pub use txn::{Reader, Txn, View};
