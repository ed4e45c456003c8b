//! The labels that mean something, spelled once. Their rules are containerd's (`docs/garbage-collection.md` there).

use std::collections::BTreeMap;

use crate::{Digest, Status};

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// On a layer blob: the digest of its uncompressed bytes (its diff id). Set after a verified unpack.
pub const UNCOMPRESSED: &str = "containerd.io/uncompressed";
/// Prefix of references from content to content; `.config`, `.m.N`, `.l.N` follow.
pub const GC_REF_CONTENT: &str = "containerd.io/gc.ref.content";
/// Prefix of references to a snapshot; the snapshotter's name follows.
pub const GC_REF_SNAPSHOT: &str = "containerd.io/gc.ref.snapshot.";
/// On a blob: the repositories of a host that have it; the host's name follows.
pub const DISTRIBUTION_SOURCE: &str = "containerd.io/distribution.source.";
/// What has it is kept by itself; the value says since when.
pub const GC_ROOT: &str = "containerd.io/gc.root";
/// On a lease: when it ends (RFC 3339).
pub const GC_EXPIRE: &str = "containerd.io/gc.expire";

/// On an active snapshot that a pull unpacks into: it is kept by the pull's lease, and not because it is active.
pub const UNPACKING: &str = "io.berth/unpacking";

/// Longest key plus value, in bytes.
pub const MAX_BYTES: usize = 4096;

/// Refuses a label that is too long, naming it.
pub fn check(labels: &Labels) -> Result<(), Status> {
    match labels.iter().find(|(key, value)| key.is_empty() || key.len() + value.len() > MAX_BYTES) {
        None => Ok(()),
        Some((key, value)) => Err(Status::invalid_argument(format!(
            "label {:?}: key and value are {} bytes together, at most {MAX_BYTES} are allowed and the key must not be empty",
            key.chars().take(60).collect::<String>(),
            key.len() + value.len()
        ))),
    }
}

/// Applies an update: an empty value deletes the label, any other sets it.
pub fn merge(into: &mut Labels, changes: &Labels) {
    for (key, value) in changes {
        if value.is_empty() {
            into.remove(key);
        } else {
            into.insert(key.clone(), value.clone());
        }
    }
}

/// The label that keeps the snapshot of an unpacked image alive, set on its config blob.
#[must_use]
pub fn gc_ref_snapshot(snapshotter: &str) -> String {
    format!("{GC_REF_SNAPSHOT}{snapshotter}")
}

/// The labels of an index: one reference for each of its manifests, numbered from 0 in its order.
#[must_use]
pub fn of_index(manifests: &[Digest]) -> Labels {
    manifests.iter().enumerate().map(|(n, digest)| (format!("{GC_REF_CONTENT}.m.{n}"), digest.to_string())).collect()
}

/// The labels of a manifest: its config and its layers, numbered from 0.
#[must_use]
pub fn of_manifest(config: &Digest, layers: &[Digest]) -> Labels {
    let mut labels: Labels =
        layers.iter().enumerate().map(|(n, digest)| (format!("{GC_REF_CONTENT}.l.{n}"), digest.to_string())).collect();
    labels.insert(format!("{GC_REF_CONTENT}.config"), config.to_string());
    labels
}

/// The source label of a repository: key (host without port, as containerd writes it) and value.
#[must_use]
pub fn distribution_source(host: &str, repository: &str) -> (String, String) {
    let name = host.split(':').next().unwrap_or(host);
    (format!("{DISTRIBUTION_SOURCE}{name}"), repository.to_owned())
}

/// Adds a repository to the sorted, comma-separated set in a source label. A set that grows too long is left as it was.
#[must_use]
pub fn add_source(key: &str, present: &str, repository: &str) -> String {
    let mut set: std::collections::BTreeSet<&str> = present.split(',').filter(|part| !part.is_empty()).collect();
    set.insert(repository);
    let joined = set.into_iter().collect::<Vec<_>>().join(",");
    if key.len() + joined.len() > MAX_BYTES { present.to_owned() } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_value_deletes() {
        let mut labels = Labels::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        merge(&mut labels, &Labels::from([("a".into(), String::new()), ("c".into(), "3".into())]));
        assert_eq!(labels, Labels::from([("b".into(), "2".into()), ("c".into(), "3".into())]));
    }

    #[test]
    fn sources_are_a_sorted_set_by_host_without_port() {
        assert_eq!(distribution_source("localhost:5000", "a/b").0, "containerd.io/distribution.source.localhost");
        assert_eq!(add_source("k", "", "b"), "b");
        assert_eq!(add_source("k", "b", "a"), "a,b");
        assert_eq!(add_source("k", "a,b", "a"), "a,b");
        let long = "x".repeat(4090);
        assert_eq!(add_source("key", &long, "abc"), long);
    }

    #[test]
    fn long_labels_are_refused() {
        assert!(check(&Labels::from([("k".into(), "v".repeat(4095))])).is_ok());
        assert!(check(&Labels::from([("k".into(), "v".repeat(4096))])).is_err());
    }
}
