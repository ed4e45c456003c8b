//! What the domain is: digests, descriptors, references, platforms, labels and the one error that crosses contracts.
//!
//! Nothing here does I/O, is `async`, or knows how a message looks on the wire. Text is parsed once, at the edge;
//! a value of these types is valid by construction.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod chain;
mod descriptor;
mod digest;
pub mod filter;
mod identifier;
pub mod labels;
mod manifest;
pub mod media_type;
mod platform;
mod reference;
pub mod references;
mod status;

pub use chain::{chain_id, chain_ids};
pub use descriptor::Descriptor;
pub use digest::{Digest, DigestError};
pub use identifier::{Identifier, IdentifierError};
pub use manifest::{Config, Index, IndexEntry, Manifest, ManifestError};
pub use media_type::{Kind, MediaType};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use status::{Code, Status};
