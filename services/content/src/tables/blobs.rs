//! `blobs`: digest -> size and time. Path and store id are not stored: they are where the store is now.
//!
//! Files change first, and their records after them. A power cut may undo the change of a file (a deletion is not flushed), and
//! with it the times of its directory, and leave that of the record. So what changes a record takes the row of [`listed`] away in
//! the same batch, and the next start lists again.

use berth_kv::{Reader, Table, Txn, View};
use berth_model::{Digest, Status};
use berth_wire::content::StatBlobReply;

use crate::tables::listed;

const BLOBS: Table<Digest, StatBlobReply> = Table::new("blobs");

pub(crate) fn get(from: &impl Reader, digest: &Digest) -> Result<Option<StatBlobReply>, Status> {
    BLOBS.get(from, digest)
}

pub(crate) fn contains(from: &impl Reader, digest: &Digest) -> Result<bool, Status> {
    BLOBS.contains(from, digest)
}

/// Up to `limit` records after a digest, in order of their digests.
pub(crate) fn scan(
    view: &View<'_>,
    after: Option<&Digest>,
    limit: usize,
) -> Result<Vec<(Digest, StatBlobReply)>, Status> {
    BLOBS.scan(view, &(), after, limit)
}

pub(crate) fn put(txn: &mut Txn<'_>, digest: &Digest, record: &StatBlobReply) -> Result<(), Status> {
    listed::delete(txn)?;
    BLOBS.put(txn, digest, record);
    Ok(())
}

pub(crate) fn delete(txn: &mut Txn<'_>, digest: &Digest) -> Result<(), Status> {
    listed::delete(txn)?;
    BLOBS.delete(txn, digest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use berth_kv::{Db, Durability, Options};

    use super::*;
    use crate::tables::{TABLES, listed::Listed};

    #[tokio::test]
    async fn a_change_makes_the_next_start_list() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { durability: Durability::None, tables: TABLES, holder: "a test".into() };
        let db = Db::open(dir.path(), options).unwrap();
        let digest = Digest::of(b"a blob");
        for deleted in [false, true] {
            let was_there = db
                .write(move |txn| {
                    listed::put(txn, &Listed { inode: 7, ..Listed::default() });
                    contains(txn, &digest)
                })
                .await
                .unwrap();
            assert_eq!(was_there, deleted);
            db.write(
                move |txn| if deleted { delete(txn, &digest) } else { put(txn, &digest, &StatBlobReply::default()) },
            )
            .await
            .unwrap();
            let left = db.read(move |view| Ok((contains(view, &digest)?, listed::get(view)?))).await.unwrap();
            assert_eq!(left, (!deleted, None));
        }
    }
}
