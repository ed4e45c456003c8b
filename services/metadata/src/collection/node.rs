//! What a collection reasons about: blobs, snapshots and images, each in its namespace.

use std::{fmt, sync::Arc};

use berth_model::{
    Digest,
    references::{self, Referent},
};
use berth_wire::metadata as msg;

/// One thing that is kept or not.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Node {
    pub(crate) namespace: Arc<str>,
    pub(crate) thing: Thing,
}

/// What it is. The order is that of a sweep: what refers goes before what is referred to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Thing {
    Image(Box<str>),
    Snapshot { snapshotter: Arc<str>, key: Box<str> },
    Content(Digest),
}

impl Node {
    pub(crate) fn content(namespace: &str, digest: Digest) -> Self {
        Self { namespace: namespace.into(), thing: Thing::Content(digest) }
    }

    pub(crate) fn snapshot(namespace: &str, snapshotter: &str, key: &str) -> Self {
        Self {
            namespace: namespace.into(),
            thing: Thing::Snapshot { snapshotter: snapshotter.into(), key: key.into() },
        }
    }

    pub(crate) fn image(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), thing: Thing::Image(name.into()) }
    }

    /// What a label of this node refers to.
    pub(crate) fn refers(&self, to: Referent) -> Self {
        let thing = match to {
            Referent::Content(digest) => Thing::Content(digest),
            Referent::Image(name) => Thing::Image(name.into()),
            Referent::Snapshot { snapshotter, key } => {
                Thing::Snapshot { snapshotter: snapshotter.into(), key: key.into() }
            }
        };
        Self { namespace: Arc::clone(&self.namespace), thing }
    }

    /// What a container stands on and what its labels refer to.
    pub(crate) fn of_container(namespace: &str, container: &msg::Container) -> Vec<Self> {
        let by_labels = references::forward(&container.labels).map(|to| Self::image(namespace, "").refers(to));
        let below = (!container.snapshot_key.is_empty())
            .then(|| Self::snapshot(namespace, &container.snapshotter, &container.snapshot_key));
        by_labels.chain(below).collect()
    }

    /// What a lease of this namespace names; nothing for ingests, which are not records.
    pub(crate) fn leased(namespace: &str, r#type: &str, id: &str) -> Option<Self> {
        match r#type.split_once('/') {
            None if r#type == "content" => Some(Self::content(namespace, id.parse().ok()?)),
            None if r#type == "images" => Some(Self::image(namespace, id)),
            Some(("snapshots", snapshotter)) => Some(Self::snapshot(namespace, snapshotter, id)),
            _ => None,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.thing {
            Thing::Image(name) => write!(f, "image {name}"),
            Thing::Snapshot { snapshotter, key } => write!(f, "snapshot {snapshotter}/{key}"),
            Thing::Content(digest) => write!(f, "content {digest}"),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.namespace)
    }
}
