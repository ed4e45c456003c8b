//! What closures work with: a [`View`] to read, a [`Txn`] to read and write.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use berth_model::Status;
use rocksdb::{DB, Direction, IteratorMode, ReadOptions, Snapshot, WriteBatch};

use crate::{
    failure,
    layout::{Place, Tables},
};

/// Rows of a scan: key and value as stored.
pub(crate) type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Something to read from. Sealed: tables call it, nobody else implements it.
pub trait Reader: sealed::Read {}

pub(crate) mod sealed {
    use super::{Rows, Status};

    pub trait Read {
        fn get_raw(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, Status>;
        /// Up to `limit` rows whose key begins with `prefix` and is greater than `after`.
        fn scan_raw(
            &self,
            table: &'static str,
            prefix: &[u8],
            after: Option<&[u8]>,
            limit: usize,
        ) -> Result<Rows, Status>;
    }
}

/// One consistent state of the store.
pub struct View<'a> {
    pub(crate) db: &'a DB,
    pub(crate) tables: Tables,
    pub(crate) snapshot: Snapshot<'a>,
    pub(crate) path: &'a Path,
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Reader for View<'_> {}

impl sealed::Read for View<'_> {
    fn get_raw(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, Status> {
        let place = self.tables.place(self.db, table)?;
        self.snapshot.get_cf(place.family, place.key(key)).map_err(|error| failure::status("read", self.path, &error))
    }

    fn scan_raw(&self, table: &'static str, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Rows, Status> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        scan(self.db, self.path, &self.tables.place(self.db, table)?, options, prefix, after, limit)
    }
}

/// A change in the making: it sees its own writes, and nothing of it is written unless its closure succeeds.
pub struct Txn<'a> {
    pub(crate) db: &'a DB,
    pub(crate) path: &'a Path,
    tables: Tables,
    changes: HashMap<&'static str, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
}

impl std::fmt::Debug for Txn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Txn").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<'a> Txn<'a> {
    pub(crate) fn new(db: &'a DB, tables: Tables, path: &'a Path) -> Self {
        Self { db, path, tables, changes: HashMap::new() }
    }

    /// A value of `None` deletes.
    pub(crate) fn set(&mut self, table: &'static str, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.changes.entry(table).or_default().insert(key, value);
    }

    /// The changes as a batch; `None` if there are none.
    pub(crate) fn into_batch(self) -> Result<Option<WriteBatch>, Status> {
        let mut batch = WriteBatch::default();
        for (table, changes) in self.changes {
            let place = self.tables.place(self.db, table)?;
            for (key, value) in changes {
                match value {
                    Some(value) => batch.put_cf(place.family, place.key(&key), value),
                    None => batch.delete_cf(place.family, place.key(&key)),
                }
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}

impl Reader for Txn<'_> {}

impl sealed::Read for Txn<'_> {
    fn get_raw(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, Status> {
        if let Some(change) = self.changes.get(table).and_then(|changes| changes.get(key)) {
            return Ok(change.clone());
        }
        let place = self.tables.place(self.db, table)?;
        self.db.get_cf(place.family, place.key(key)).map_err(|error| failure::status("read", self.path, &error))
    }

    fn scan_raw(&self, table: &'static str, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Rows, Status> {
        let place = self.tables.place(self.db, table)?;
        let Some(changes) = self.changes.get(table) else {
            return scan(self.db, self.path, &place, ReadOptions::default(), prefix, after, limit);
        };
        // Deleted rows may hide as many stored ones as there are changes.
        let more = limit.saturating_add(changes.len());
        let stored = scan(self.db, self.path, &place, ReadOptions::default(), prefix, after, more)?;
        let last = (stored.len() == more).then(|| stored.last().map(|(key, _)| key.clone())).flatten();
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
        for (key, change) in changes {
            let within = key.starts_with(prefix)
                && after.is_none_or(|after| key.as_slice() > after)
                && last.as_ref().is_none_or(|last| key <= last);
            match change {
                _ if !within => {}
                Some(value) => drop(rows.insert(key.clone(), value.clone())),
                None => drop(rows.remove(key)),
            }
        }
        Ok(rows.into_iter().take(limit).collect())
    }
}

fn scan(
    db: &DB,
    path: &Path,
    place: &Place<'_>,
    mut options: ReadOptions,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Rows, Status> {
    // The iteration stops at the prefix's end by itself, so that it never walks over what was deleted behind it.
    if let Some(end) = successor(&place.key(prefix)) {
        options.set_iterate_upper_bound(end);
    }
    let start = place.key(after.map_or(prefix, |after| after.max(prefix)));
    let mut rows = Rows::new();
    for row in db.iterator_cf_opt(place.family, options, IteratorMode::From(&start, Direction::Forward)) {
        if rows.len() >= limit {
            break;
        }
        let (key, value) = row.map_err(|error| failure::status("read", path, &error))?;
        let key = place
            .own(&key)
            .ok_or_else(|| Status::internal(format!("the store at {} gave a key of another table", path.display())))?;
        if after == Some(key) {
            continue;
        }
        rows.push((key.to_vec(), value.into_vec()));
    }
    Ok(rows)
}

/// The smallest key that is greater than all that begin with `prefix`; `None` if there is no such.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::successor;

    #[test]
    fn successors() {
        for (prefix, end) in [(&b"a"[..], Some(&b"b"[..])), (b"", None), (b"\xff\xff", None), (b"a\xff", Some(b"b"))] {
            assert_eq!(successor(prefix).as_deref(), end);
        }
    }
}
