//! `namespaces`: name → nothing. A namespace is written when the first thing is put into it and stays when the last one
//! goes, as in containerd.

use berth_kv::{Reader, Table, Txn};
use berth_model::Status;

const NAMESPACES: Table<String, ()> = Table::new("namespaces");

pub(crate) fn is_known(from: &impl Reader, name: &str) -> Result<bool, Status> {
    NAMESPACES.contains(from, &name.to_owned())
}

pub(crate) fn put(txn: &mut Txn<'_>, name: &str) {
    NAMESPACES.put(txn, &name.to_owned(), &());
}

/// All, by name. Their number is bounded where they are made.
pub(crate) fn all(from: &impl Reader) -> Result<Vec<String>, Status> {
    Ok(NAMESPACES.scan(from, &(), None, usize::MAX)?.into_iter().map(|(name, ())| name).collect())
}

#[cfg(test)]
mod tests {
    use berth_kv::Key;

    #[test]
    fn the_stored_form_stays() {
        assert_eq!("k8s.io".to_owned().to_bytes(), b"k8s.io\0\x01");
    }
}
