//! The wire: generated messages, each call and job with its subject, and conversions from and to the model.
//!
//! The `.proto` files in `proto/` are the contract and hold the documentation; what is generated from them is not
//! documented again.

pub mod containerd;
mod contract;
pub mod convert;
#[cfg(test)]
mod golden;
pub mod job;

pub use contract::{Call, Job};

/// The generated code, nested as the packages are: generated paths climb by `super`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, reason = "generated from the .proto files")]
mod berth {
    macro_rules! package {
        ($($area:ident)*) => {
            $(pub mod $area {
                pub mod v1 {
                    include!(concat!(env!("OUT_DIR"), "/berth.", stringify!($area), ".v1.rs"));
                }
            })*
        };
    }
    package! { types content metadata fetcher unpacker transfer gc }
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/berth.v1.rs"));
    }
}

pub use berth::{
    content::v1 as content, fetcher::v1 as fetcher, gc::v1 as gc, metadata::v1 as metadata, transfer::v1 as transfer,
    types::v1 as types, unpacker::v1 as unpacker, v1 as gateway,
};

/// Descriptors of everything in `proto/`, for gRPC reflection: an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
