//! The tables of this service, each in a file of its own; nothing else knows a key, or can change a row.

pub(crate) mod blobs;
pub(crate) mod listed;

/// The names of all tables.
pub(crate) const TABLES: &[&str] = &["blobs", "listed"];
