//! The registry client against a registry that misbehaves: one test per misbehaviour.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod auth;
mod download;
mod hosts;
mod kit;
mod pieces;
mod resolve;
mod secrets;
