//! Filling a page from a table, a few rows at a time: rows may be large, and a page is bounded in bytes.

use berth_kv::{Key, KeyReader, Reader, Table};
use berth_model::Status;
use prost::Message;

use crate::page::Page;

pub(super) const ROWS_AT_ONCE: usize = 64;
const ROWS_OF_ALL: usize = 1000;

/// All rows of a table, some at a time.
pub(super) fn each<K: Key, V: Message + Default>(
    table: &Table<K, V>,
    from: &impl Reader,
    mut visit: impl FnMut(K, V) -> Result<(), Status>,
) -> Result<(), Status> {
    let mut after = None;
    loop {
        let rows = table.scan(from, &(), after.as_ref(), ROWS_OF_ALL)?;
        let last = rows.len() < ROWS_OF_ALL;
        // Keys are not to be cloned: the last one is decoded again from its bytes.
        let next = rows.last().map(|(key, _)| key.to_bytes());
        for (key, value) in rows {
            visit(key, value)?;
        }
        after = next.map(|bytes| K::decode(&mut KeyReader::new(&bytes))).transpose()?;
        if last {
            return Ok(());
        }
    }
}

/// Scans below `prefix` after a key, makes an item of each row, and stops when the page is full.
pub(super) fn fill<R: Reader, K: Key, V: Message + Default, T: Message>(
    table: &Table<K, V>,
    from: &R,
    prefix: &impl Key,
    mut after: Option<K>,
    page: &mut Page<T>,
    mut item: impl FnMut(&R, &K, V) -> Result<T, Status>,
) -> Result<(), Status> {
    loop {
        // One more than there is room for: to learn that there is more.
        let wanted = ROWS_AT_ONCE.min(page.room() + 1);
        let rows = table.scan(from, prefix, after.as_ref(), wanted)?;
        let last = rows.len() < wanted;
        for (key, value) in rows {
            let taken = page.push(item(from, &key, value)?);
            if !taken {
                return Ok(());
            }
            after = Some(key);
        }
        if last {
            return Ok(());
        }
    }
}
