//! All tables, each in a file of its own; nothing else knows a key. Their stored forms are a promise to stores that
//! exist: each file has them as golden bytes. Values are protobuf: fields may be added, and none may change its number.

pub(crate) mod child;
pub(crate) mod condemned;
pub(crate) mod container;
pub(crate) mod content;
pub(crate) mod image;
pub(crate) mod lease;
pub(crate) mod lease_resource;
pub(crate) mod meta;
pub(crate) mod namespace;
pub(crate) mod outbox;
mod pages;
pub(crate) mod pull;
pub(crate) mod snapshot;

/// The tables of this store.
pub(crate) const TABLES: &[&str] = &[
    "images",
    "content",
    "content_by_digest",
    "leases",
    "lease_resources",
    "lease_resources_by_id",
    "lease_resource_bytes",
    "snapshots",
    "snapshot_children",
    "condemned",
    "containers",
    "namespaces",
    "outbox",
    "meta",
    "pulls",
    "pulls_ended",
];
