//! containerd's API as messages and services. Names and numbers are containerd's, the words in the `.proto` files are ours.

/// The generated code, nested as the packages are: generated paths climb by `super`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, reason = "generated from the .proto files")]
mod generated {
    macro_rules! services {
        ($($name:ident)*) => {
            $(pub mod $name {
                pub mod v1 {
                    include!(concat!(env!("OUT_DIR"), "/containerd.services.", stringify!($name), ".v1.rs"));
                }
            })*
        };
    }
    pub mod google {
        pub mod rpc {
            include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
        }
    }
    pub mod containerd {
        pub mod types {
            include!(concat!(env!("OUT_DIR"), "/containerd.types.rs"));
        }
        pub mod events {
            include!(concat!(env!("OUT_DIR"), "/containerd.events.rs"));
        }
        pub mod services {
            services! { content images snapshots diff leases namespaces events version introspection containers mounts }
        }
    }
}

pub use generated::{
    containerd::{
        events as event,
        services::{
            containers::v1 as containers, content::v1 as content, diff::v1 as diff, events::v1 as events,
            images::v1 as images, introspection::v1 as introspection, leases::v1 as leases, mounts::v1 as mounts,
            namespaces::v1 as namespaces, snapshots::v1 as snapshots, version::v1 as version,
        },
        types,
    },
    google::rpc,
};
