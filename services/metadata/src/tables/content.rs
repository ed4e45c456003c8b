//! `content`: (namespace, digest) → the record. `content_by_digest`: (digest, namespace) → nothing, so that a
//! condemnation learns with one look whether anybody records a digest. The two are written together, here.

use berth_kv::{Reader, Table, Txn};
use berth_model::{Digest, Status};
use berth_wire::metadata::Content;

use super::pages;
use crate::page::Page;

const CONTENT: Table<(String, Digest), Content> = Table::new("content");
const BY_DIGEST: Table<(Digest, String), ()> = Table::new("content_by_digest");

pub(crate) fn get(from: &impl Reader, namespace: &str, digest: &Digest) -> Result<Option<Content>, Status> {
    CONTENT.get(from, &(namespace.to_owned(), *digest))
}

pub(crate) fn has(from: &impl Reader, namespace: &str, digest: &Digest) -> Result<bool, Status> {
    CONTENT.contains(from, &(namespace.to_owned(), *digest))
}

pub(crate) fn put(txn: &mut Txn<'_>, namespace: &str, digest: &Digest, content: &Content) {
    CONTENT.put(txn, &(namespace.to_owned(), *digest), content);
    BY_DIGEST.put(txn, &(*digest, namespace.to_owned()), &());
}

pub(crate) fn delete(txn: &mut Txn<'_>, namespace: &str, digest: &Digest) {
    CONTENT.delete(txn, &(namespace.to_owned(), *digest));
    BY_DIGEST.delete(txn, &(*digest, namespace.to_owned()));
}

/// A namespace that records the digest.
pub(crate) fn any_namespace(from: &impl Reader, digest: &Digest) -> Result<Option<String>, Status> {
    Ok(BY_DIGEST.scan(from, digest, None, 1)?.pop().map(|((_, namespace), ())| namespace))
}

/// All namespaces that record the digest. Their number is bounded where they are made.
pub(crate) fn namespaces(from: &impl Reader, digest: &Digest) -> Result<Vec<String>, Status> {
    Ok(BY_DIGEST.scan(from, digest, None, usize::MAX)?.into_iter().map(|((_, namespace), ())| namespace).collect())
}

/// The records of a namespace after a digest, by digest.
pub(crate) fn fill(
    from: &impl Reader,
    namespace: &str,
    after: Option<Digest>,
    page: &mut Page<Content>,
) -> Result<(), Status> {
    let namespace = namespace.to_owned();
    let after = after.map(|digest| (namespace.clone(), digest));
    pages::fill(&CONTENT, from, &namespace, after, page, |_, _, content| Ok(content))
}

/// All records of all namespaces.
pub(crate) fn each(
    from: &impl Reader,
    mut visit: impl FnMut(&str, Digest, Content) -> Result<(), Status>,
) -> Result<(), Status> {
    pages::each(&CONTENT, from, |(namespace, digest), content| visit(&namespace, digest, content))
}

#[cfg(test)]
mod tests {
    use berth_kv::Key;
    use berth_wire::types::Time;
    use prost::Message;

    use super::*;

    #[test]
    fn the_stored_form_stays() {
        let digest = Digest::from_sha256([7; 32]);
        assert_eq!(("n".to_owned(), digest).to_bytes(), [&b"n\0\x01"[..], &[7; 32]].concat());
        assert_eq!((digest, "n".to_owned()).to_bytes(), [&[7; 32], &b"n\0\x01"[..]].concat());
        assert!(().encode_to_vec().is_empty());
        let content = Content {
            digest: "d".into(),
            size: 3,
            labels: [("k".to_owned(), "v".to_owned())].into(),
            created_at: Some(Time { seconds: 1, nanos: 2 }),
            updated_at: Some(Time { seconds: 3, nanos: 0 }),
        };
        let bytes = b"\x0a\x01d\x10\x03\x1a\x06\x0a\x01k\x12\x01v\x22\x04\x08\x01\x10\x02\x2a\x02\x08\x03";
        assert_eq!(content.encode_to_vec(), bytes);
    }
}
