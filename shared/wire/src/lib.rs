//! The wire: generated messages, each call and job with its subject, and conversions from and to the model.

mod contract;

pub use contract::{Call, Job};
