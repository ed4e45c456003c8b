//! Which records of blobs must come or go, so that the table agrees with the files.
//!
//! A file under a blob's name came there by a rename, after its bytes were verified and flushed: it is a blob, with or
//! without a record. A record without a file is of a deletion that was cut off, or of a file that somebody took away.

use std::collections::BTreeSet;

use berth_model::Digest;

/// What to change in the table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Repairs {
    pub(crate) add: Vec<Digest>,
    pub(crate) drop: Vec<Digest>,
}

/// Compares the digests of the records with those of the files.
pub(crate) fn repairs(records: &BTreeSet<Digest>, files: &BTreeSet<Digest>) -> Repairs {
    Repairs { add: files.difference(records).copied().collect(), drop: records.difference(files).copied().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_the_truth() {
        let [a, b, c] = [Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c")];
        let table = [
            (vec![], vec![], vec![], vec![]),
            (vec![a, b], vec![a, b], vec![], vec![]),
            (vec![a], vec![a, b], vec![b], vec![]),
            (vec![a, c], vec![a, b], vec![b], vec![c]),
        ];
        for (records, files, add, drop) in table {
            let found = repairs(&records.into_iter().collect(), &files.into_iter().collect());
            assert_eq!(found, Repairs { add, drop });
        }
    }
}
