//! The service over an in-process bus, with a content store and a transfer service of the tests' own.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod content;
mod jobs;
mod kit;
