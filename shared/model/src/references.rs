//! What labels say about keeping: references, back references, roots and ends. The rules of collection, without any I/O.
//!
//! Source of the rules: containerd's `docs/garbage-collection.md`.

use crate::{
    Digest,
    labels::{GC_ROOT as ROOT, Labels},
};

const PREFIX: &str = "containerd.io/gc.";
const FLAT: &str = "containerd.io/gc.flat";

/// Something a label refers to, in the namespace of what has the label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Referent {
    /// A blob.
    Content(Digest),
    /// A snapshot, committed or not.
    Snapshot {
        /// Whose.
        snapshotter: String,
        /// Its key or name.
        key: String,
    },
    /// An image.
    Image(String),
}

/// In which direction a label keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forward,
    Back,
}

/// What the labels of a thing keep: it references these.
pub fn forward(labels: &Labels) -> impl Iterator<Item = Referent> {
    all(labels, Direction::Forward)
}

/// What keeps the thing that has these labels: it lives as long as one of these.
pub fn back(labels: &Labels) -> impl Iterator<Item = Referent> {
    all(labels, Direction::Back)
}

/// Whether the labels make a root of a blob or snapshot.
#[must_use]
pub fn is_root(labels: &Labels) -> bool {
    labels.get(ROOT).is_some_and(|value| !value.is_empty())
}

/// Whether what a lease names keeps nothing else by its labels.
#[must_use]
pub fn is_flat(labels: &Labels) -> bool {
    labels.contains_key(FLAT)
}

/// When a lease or image ends. A value that is no time is ignored.
#[must_use]
pub fn expiry(labels: &Labels) -> Option<jiff::Timestamp> {
    labels.get(crate::labels::GC_EXPIRE)?.parse().ok()
}

fn all(labels: &Labels, wanted: Direction) -> impl Iterator<Item = Referent> {
    // Labels are sorted, so those of collection stand together.
    labels
        .range(PREFIX.to_owned()..)
        .take_while(|(key, _)| key.starts_with(PREFIX))
        .filter_map(move |(key, value)| parse(key, value, wanted))
}

fn parse(key: &str, value: &str, wanted: Direction) -> Option<Referent> {
    let (direction, kind) = match key.strip_prefix(PREFIX)?.split_once('.')? {
        ("ref", kind) => (Direction::Forward, kind),
        ("bref", kind) => (Direction::Back, kind),
        _ => return None,
    };
    if direction != wanted || value.is_empty() {
        return None;
    }
    if let Some(rest) = kind.strip_prefix("snapshot.") {
        let snapshotter = rest.split_once('/').map_or(rest, |(name, _suffix)| name);
        let found = Referent::Snapshot { snapshotter: snapshotter.to_owned(), key: value.to_owned() };
        return (!snapshotter.is_empty()).then_some(found);
    }
    if is_kind(kind, "content") {
        return value.parse().ok().map(Referent::Content);
    }
    is_kind(kind, "image").then(|| Referent::Image(value.to_owned()))
}

/// The kind itself, or with a suffix that begins with `.` or `/`.
fn is_kind(text: &str, kind: &str) -> bool {
    text.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '/']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(byte: &[u8]) -> Referent {
        Referent::Content(Digest::of(byte))
    }

    fn snapshot(key: &str) -> Referent {
        Referent::Snapshot { snapshotter: "overlayfs".into(), key: key.into() }
    }

    #[test]
    fn labels_as_a_table() {
        let digest = Digest::of(b"a").to_string();
        let image = || Referent::Image("a:b".into());
        for (key, value, forward_to, back_to) in [
            ("gc.ref.content", digest.as_str(), Some(content(b"a")), None),
            ("gc.ref.content.l.0", &digest, Some(content(b"a")), None),
            ("gc.ref.content/x", &digest, Some(content(b"a")), None),
            ("gc.ref.contentx", &digest, None, None),
            ("gc.ref.content", "sha256:zz", None, None),
            ("gc.ref.snapshot.overlayfs", "k", Some(snapshot("k")), None),
            ("gc.ref.snapshot.overlayfs/1", "k", Some(snapshot("k")), None),
            ("gc.ref.snapshot.", "k", None, None),
            ("gc.ref.snapshot", "k", None, None),
            ("gc.ref.image", "a:b", Some(image()), None),
            ("gc.ref.image.1", "a:b", Some(image()), None),
            ("gc.ref.image", "", None, None),
            ("gc.bref.image", "a:b", None, Some(image())),
            ("gc.bref.content/1", &digest, None, Some(content(b"a"))),
            ("gc.bref.snapshot.overlayfs", "k", None, Some(snapshot("k"))),
            ("gc.root", "1", None, None),
            ("gc.other.content", &digest, None, None),
        ] {
            let labels = Labels::from([
                (format!("containerd.io/{key}"), value.to_owned()),
                ("a".to_owned(), "b".to_owned()),
                ("z".to_owned(), digest.clone()),
            ]);
            assert_eq!(forward(&labels).next(), forward_to, "{key}");
            assert_eq!(back(&labels).next(), back_to, "{key}");
        }
    }

    #[test]
    fn roots_and_ends() {
        let labels = |key: &str, value: &str| Labels::from([(format!("containerd.io/{key}"), value.to_owned())]);
        assert!(is_root(&labels("gc.root", "x")) && !is_root(&labels("gc.root", "")));
        assert!(is_flat(&labels("gc.flat", "")) && !is_flat(&labels("gc.root", "x")));
        assert!(expiry(&labels("gc.expire", "2024-01-02T03:04:05Z")).is_some());
        assert!(expiry(&labels("gc.expire", "soon")).is_none());
    }
}
