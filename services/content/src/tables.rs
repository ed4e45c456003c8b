//! The tables of this service.

use berth_kv::Table;
use berth_model::Digest;
use berth_wire::content::StatBlobReply;

/// The names of all tables.
pub(crate) const TABLES: &[&str] = &["blobs"];

/// The blobs: size and time. Path and store id are not stored: they are where the store is now.
pub(crate) const BLOBS: Table<Digest, StatBlobReply> = Table::new("blobs");
