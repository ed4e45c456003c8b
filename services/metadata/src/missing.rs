//! The words for what is not there: each names the thing and the namespace it was looked for in.

use berth_model::Status;

macro_rules! missing {
    ($($name:ident: $words:literal),* $(,)?) => {
        $(pub(crate) fn $name(namespace: &str, name: &str) -> Status {
            Status::not_found(format!(concat!($words, " {:?} in namespace {:?} not found"), name, namespace))
        })*
    };
}

missing! { image: "image", content: "content", lease: "lease", container: "container" }

pub(crate) fn snapshot(namespace: &str, snapshotter: &str, key: &str) -> Status {
    Status::not_found(format!("snapshot {key:?} of snapshotter {snapshotter:?} in namespace {namespace:?} not found"))
}

pub(crate) fn parent(namespace: &str, snapshotter: &str, key: &str) -> Status {
    let words = format!("parent snapshot {key:?} of snapshotter {snapshotter:?} in namespace {namespace:?} not found");
    Status::not_found(words)
}
