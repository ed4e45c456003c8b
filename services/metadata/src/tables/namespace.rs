//! `namespaces`: name → its labels. A namespace is written when the first thing is put into it, or when somebody makes it,
//! and stays when the last thing goes, as in containerd.

use berth_kv::{Reader, Table, Txn};
use berth_model::{Status, labels::Labels};
use berth_wire::metadata::Namespace;

use super::pages;
use crate::page::Page;

/// The value has no name: the key does.
const NAMESPACES: Table<String, Namespace> = Table::new("namespaces");

pub(crate) fn is_known(from: &impl Reader, name: &str) -> Result<bool, Status> {
    NAMESPACES.contains(from, &name.to_owned())
}

pub(crate) fn get(from: &impl Reader, name: &str) -> Result<Option<Namespace>, Status> {
    let found = NAMESPACES.get(from, &name.to_owned())?;
    Ok(found.map(|found| Namespace { name: name.to_owned(), ..found }))
}

pub(crate) fn put(txn: &mut Txn<'_>, name: &str, labels: &Labels) {
    NAMESPACES.put(txn, &name.to_owned(), &Namespace { name: String::new(), labels: labels.clone() });
}

pub(crate) fn delete(txn: &mut Txn<'_>, name: &str) {
    NAMESPACES.delete(txn, &name.to_owned());
}

/// How many there are.
pub(crate) fn count(from: &impl Reader) -> Result<usize, Status> {
    let mut count = 0;
    pages::each(&NAMESPACES, from, |_, _| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// Those after a name, by name.
pub(crate) fn fill(from: &impl Reader, after: &str, page: &mut Page<Namespace>) -> Result<(), Status> {
    let after = (!after.is_empty()).then(|| after.to_owned());
    pages::fill(&NAMESPACES, from, &(), after, page, |_, name, found| Ok(Namespace { name: name.clone(), ..found }))
}

#[cfg(test)]
mod tests {
    use berth_kv::Key;
    use prost::Message;

    use super::*;

    #[test]
    fn the_stored_form_stays() {
        assert_eq!("k8s.io".to_owned().to_bytes(), b"k8s.io\0\x01");
        let labels = Labels::from([("k".to_owned(), "v".to_owned())]);
        assert_eq!(Namespace { name: String::new(), labels }.encode_to_vec(), b"\x12\x06\x0a\x01k\x12\x01v");
        assert_eq!(Namespace::decode(&b""[..]).unwrap(), Namespace::default(), "what stores had before labels");
    }
}
