//! `listed`: one row, the directory of blobs as it was when the table of blobs was last made to agree with it; see
//! [`agreement`](crate::agreement).

use berth_kv::{Reader, Table, Txn};
use berth_model::Status;
use berth_wire::types::Time;

const LISTED: Table<(), Listed> = Table::new("listed");

/// A directory, as it was before it was listed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Listed {
    /// The start of the machine in which that was.
    #[prost(string, tag = "1")]
    pub(crate) boot: String,
    #[prost(uint64, tag = "2")]
    pub(crate) device: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) inode: u64,
    /// When a name last came or went.
    #[prost(message, optional, tag = "4")]
    pub(crate) modified: Option<Time>,
    /// When anything of it last changed. Unlike the other, nobody can set it.
    #[prost(message, optional, tag = "5")]
    pub(crate) changed: Option<Time>,
}

pub(crate) fn get(from: &impl Reader) -> Result<Option<Listed>, Status> {
    LISTED.get(from, &())
}

pub(crate) fn put(txn: &mut Txn<'_>, listed: &Listed) {
    LISTED.put(txn, &(), listed);
}

/// Looks first: to most changes it is not there, and they need not say that it is not.
pub(crate) fn delete(txn: &mut Txn<'_>) -> Result<(), Status> {
    if LISTED.contains(txn, &())? {
        LISTED.delete(txn, &());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use berth_kv::Key as _;
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_stored_form_stays() {
        assert!(().to_bytes().is_empty());
        let time = |seconds| Some(Time { seconds, nanos: 2 });
        let listed = Listed { boot: "b".into(), device: 3, inode: 4, modified: time(5), changed: time(6) };
        let golden = b"\x0a\x01b\x10\x03\x18\x04\x22\x04\x08\x05\x10\x02\x2a\x04\x08\x06\x10\x02";
        assert_eq!(listed.encode_to_vec(), golden);
    }
}
