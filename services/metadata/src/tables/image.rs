//! `images`: (namespace, name) → the image.

use berth_kv::{Reader, Table, Txn};
use berth_model::Status;
use berth_wire::metadata::Image;

use super::pages;
use crate::page::Page;

const IMAGES: Table<(String, String), Image> = Table::new("images");

pub(crate) fn get(from: &impl Reader, namespace: &str, name: &str) -> Result<Option<Image>, Status> {
    IMAGES.get(from, &(namespace.to_owned(), name.to_owned()))
}

pub(crate) fn put(txn: &mut Txn<'_>, namespace: &str, image: &Image) {
    IMAGES.put(txn, &(namespace.to_owned(), image.name.clone()), image);
}

pub(crate) fn delete(txn: &mut Txn<'_>, namespace: &str, name: &str) {
    IMAGES.delete(txn, &(namespace.to_owned(), name.to_owned()));
}

/// The images of a namespace after a name, by name.
pub(crate) fn fill(from: &impl Reader, namespace: &str, after: &str, page: &mut Page<Image>) -> Result<(), Status> {
    let namespace = namespace.to_owned();
    let after = (!after.is_empty()).then(|| (namespace.clone(), after.to_owned()));
    pages::fill(&IMAGES, from, &namespace, after, page, |_, _, image| Ok(image))
}

/// All images of all namespaces.
pub(crate) fn each(from: &impl Reader, mut visit: impl FnMut(&str, Image) -> Result<(), Status>) -> Result<(), Status> {
    pages::each(&IMAGES, from, |(namespace, _), image| visit(&namespace, image))
}

#[cfg(test)]
mod tests {
    use berth_kv::Key;
    use berth_wire::types::{Descriptor, Time};
    use prost::Message;

    use super::*;

    #[test]
    fn the_stored_form_stays() {
        let key = ("ns".to_owned(), "a:b".to_owned());
        assert_eq!(key.to_bytes(), b"ns\0\x01a:b\0\x01");
        let image = Image {
            name: "a".into(),
            labels: [("k".to_owned(), "v".to_owned())].into(),
            target: Some(Descriptor { media_type: "m".into(), digest: "d".into(), size: 3, ..Descriptor::default() }),
            created_at: Some(Time { seconds: 1, nanos: 2 }),
            updated_at: Some(Time { seconds: 3, nanos: 0 }),
        };
        let bytes = b"\x0a\x01a\x12\x06\x0a\x01k\x12\x01v\x1a\x08\x0a\x01m\x12\x01d\x18\x03\x22\x04\x08\x01\x10\x02\x2a\x02\x08\x03";
        assert_eq!(image.encode_to_vec(), bytes);
    }
}
