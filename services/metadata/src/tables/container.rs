//! `containers`: (namespace, id) → the container.

use berth_kv::{Reader, Table, Txn};
use berth_model::Status;
use berth_wire::metadata::Container;

use super::pages;
use crate::page::Page;

const CONTAINERS: Table<(String, String), Container> = Table::new("containers");

pub(crate) fn get(from: &impl Reader, namespace: &str, id: &str) -> Result<Option<Container>, Status> {
    CONTAINERS.get(from, &(namespace.to_owned(), id.to_owned()))
}

pub(crate) fn put(txn: &mut Txn<'_>, namespace: &str, container: &Container) {
    CONTAINERS.put(txn, &(namespace.to_owned(), container.id.clone()), container);
}

pub(crate) fn delete(txn: &mut Txn<'_>, namespace: &str, id: &str) {
    CONTAINERS.delete(txn, &(namespace.to_owned(), id.to_owned()));
}

/// The containers of a namespace after an id, by id.
pub(crate) fn fill(from: &impl Reader, namespace: &str, after: &str, page: &mut Page<Container>) -> Result<(), Status> {
    let namespace = namespace.to_owned();
    let after = (!after.is_empty()).then(|| (namespace.clone(), after.to_owned()));
    pages::fill(&CONTAINERS, from, &namespace, after, page, |_, _, container| Ok(container))
}

/// All containers of all namespaces.
pub(crate) fn each(
    from: &impl Reader,
    mut visit: impl FnMut(&str, Container) -> Result<(), Status>,
) -> Result<(), Status> {
    pages::each(&CONTAINERS, from, |(namespace, _), container| visit(&namespace, container))
}

#[cfg(test)]
mod tests {
    use berth_kv::Key;
    use berth_wire::{metadata::Payload, types::Time};
    use prost::Message;

    use super::*;

    #[test]
    fn the_stored_form_stays() {
        assert_eq!(("n".to_owned(), "c".to_owned()).to_bytes(), b"n\0\x01c\0\x01");
        let payload = Payload { type_url: "t".into(), value: vec![1] };
        let container = Container {
            id: "c".into(),
            labels: [("k".to_owned(), "v".to_owned())].into(),
            image: "i".into(),
            runtime: "r".into(),
            runtime_options: Some(payload.clone()),
            spec: Some(payload.clone()),
            snapshotter: "o".into(),
            snapshot_key: "s".into(),
            created_at: Some(Time { seconds: 1, nanos: 2 }),
            updated_at: Some(Time { seconds: 3, nanos: 0 }),
            extensions: [("e".to_owned(), payload)].into(),
            sandbox: "b".into(),
        };
        let bytes: &[u8] = b"\x0a\x01c\x12\x06\x0a\x01k\x12\x01v\x1a\x01i\x22\x01r\x2a\x06\x0a\x01t\x12\x01\x01\x32\x06\x0a\x01t\x12\x01\x01\
            \x3a\x01o\x42\x01s\x4a\x04\x08\x01\x10\x02\x52\x02\x08\x03\x5a\x0b\x0a\x01e\x12\x06\x0a\x01t\x12\x01\x01\x62\x01b";
        assert_eq!(container.encode_to_vec(), bytes);
    }
}
