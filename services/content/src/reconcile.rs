//! Makes the table of blobs agree with the files: which records must come or go, and their coming and going.
//!
//! A file under a blob's name came there by a rename, after its bytes were verified and flushed: it is a blob, with or
//! without a record. A record without a file is of a deletion that was cut off, or of a file that somebody took away.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use berth_api::blocking;
use berth_kv::Db;
use berth_model::{Digest, Status};
use berth_wire::{content::StatBlobReply, types::Time};

use crate::{agreement::Looked, store::Store, tables::blobs};

/// Rows read or written at once.
const BATCH: usize = 10_000;

/// What to change in the table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Repairs {
    add: Vec<Digest>,
    drop: Vec<Digest>,
}

/// Compares the digests of the records with those of the files.
fn repairs(records: &BTreeSet<Digest>, files: &BTreeSet<Digest>) -> Repairs {
    Repairs { add: files.difference(records).copied().collect(), drop: records.difference(files).copied().collect() }
}

/// The record of a blob.
pub(crate) fn record(digest: &Digest, size: u64, created_at: Time) -> StatBlobReply {
    StatBlobReply { digest: digest.to_string(), size, created_at: Some(created_at), ..Default::default() }
}

/// Makes the table agree with the files that a look at their directory found. Answers how many records came and went.
pub(crate) async fn reconcile(
    db: &Db,
    store: &Arc<Store>,
    looked: Looked,
    files: Vec<Digest>,
) -> Result<(usize, usize), Status> {
    let (count, files) = (files.len(), files.into_iter().collect());
    let mut records = BTreeSet::new();
    loop {
        let after = records.last().copied();
        let rows = db.read(move |view| blobs::scan(view, after.as_ref(), BATCH)).await?;
        let last = rows.len() < BATCH;
        records.extend(rows.into_iter().map(|(digest, _)| digest));
        if last {
            break;
        }
    }
    let repairs = blocking(move || Ok(repairs(&records, &files))).await?;
    let counts = (repairs.add.len(), repairs.drop.len());
    for digests in repairs.drop.chunks(BATCH).map(<[Digest]>::to_vec) {
        db.write(move |txn| {
            for digest in digests {
                tracing::warn!(%digest, "the file of a blob is gone; forgetting it");
                blobs::delete(txn, &digest)?;
            }
            Ok::<_, Status>(())
        })
        .await?;
    }
    // Their names may not be on disk yet, and what has a record is told of.
    let for_flush = Arc::clone(store);
    if counts.0 > 0 {
        blocking(move || for_flush.flush_blobs()).await?;
    }
    for digests in repairs.add.chunks(BATCH).map(<[Digest]>::to_vec) {
        let layout = store.layout().clone();
        let facts = blocking(move || {
            let facts = digests.into_iter().map(|digest| Ok((digest, layout.blob_facts(&digest)?)));
            facts.collect::<Result<Vec<(Digest, Option<(u64, SystemTime)>)>, Status>>()
        })
        .await?;
        db.write(move |txn| {
            for (digest, found) in facts {
                let Some((size, since)) = found else { continue };
                blobs::put(txn, &digest, &record(&digest, size, since.into()))?;
            }
            Ok::<_, Status>(())
        })
        .await?;
    }
    looked.note(db, count).await;
    Ok(counts)
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
