//! How tables lie in a store: all in one column family, or, in stores that older versions made, each in one of its own.
//!
//! A family costs RocksDB a flush of its list of files when it is made, and each opening writes the options of every
//! family to a file, reads them again and compares them. With the families of metadata that was most of what a short
//! command waited for. So in new stores the keys of a table begin with its name, and RocksDB has one family.

use berth_model::Status;
use rocksdb::{ColumnFamily, DB};

/// RocksDB's own family, which is always there.
const DEFAULT: &str = "default";
/// Tables that came after [`Layout::Families`] was no longer made. They lie in RocksDB's own family there too: a family of their
/// own would keep programs from opening the store that do not know it.
const YOUNGER: &[&str] = &["listed"];
/// Ends a table's name in a key. No name holds it, so no table's keys begin with those of another.
const END: u8 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// All tables in RocksDB's own family, each key behind the name of its table.
    Together,
    /// Each table in a family of its name.
    Families,
}

/// The tables of a store, and how they lie in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables {
    pub(crate) layout: Layout,
    pub(crate) names: &'static [&'static str],
}

/// Where the rows of a table are: in a family, behind some bytes.
pub(crate) struct Place<'a> {
    pub(crate) family: &'a ColumnFamily,
    before: Vec<u8>,
}

impl Tables {
    /// The families that RocksDB opens. Its own is among them also where nobody uses it: with usual settings it would make
    /// each log take 32 MiB of the disk at once.
    pub(crate) fn families(self) -> impl Iterator<Item = &'static str> {
        self.names.iter().copied().filter(move |table| self.has_family(table)).chain([DEFAULT])
    }

    fn has_family(self, table: &str) -> bool {
        self.layout == Layout::Families && !YOUNGER.contains(&table)
    }

    /// Where a table is in an open store.
    pub(crate) fn place<'a>(self, db: &'a DB, table: &str) -> Result<Place<'a>, Status> {
        let unknown = || Status::internal(format!("table {table} is not among those the store was opened with"));
        if !self.names.contains(&table) {
            return Err(unknown());
        }
        let (family, before) =
            if self.has_family(table) { (table, Vec::new()) } else { (DEFAULT, [table.as_bytes(), &[END]].concat()) };
        Ok(Place { family: db.cf_handle(family).ok_or_else(unknown)?, before })
    }
}

impl Place<'_> {
    /// A table's key as RocksDB has it.
    pub(crate) fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.before, key].concat()
    }

    /// A key of RocksDB's as the table has it, if it is one of this table.
    pub(crate) fn own<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        key.strip_prefix(self.before.as_slice())
    }
}

#[cfg(test)]
mod tests;
