//! `pulls`: id → the record; and `pulls_ended`: (when, id) → nothing, so that the oldest of those that ended are found.

use berth_kv::{Reader, Table, Txn};
use berth_model::Status;
use berth_wire::{metadata::PullRecord, types};

use super::pages;
use crate::page::Page;

const PULLS: Table<String, PullRecord> = Table::new("pulls");
const ENDED: Table<(u64, String), ()> = Table::new("pulls_ended");

pub(crate) fn get(from: &impl Reader, id: &str) -> Result<Option<PullRecord>, Status> {
    PULLS.get(from, &id.to_owned())
}

pub(crate) fn put(txn: &mut Txn<'_>, pull: &PullRecord) {
    PULLS.put(txn, &pull.id, pull);
    if let Some(ended) = pull.ended_at {
        ENDED.put(txn, &(seconds(ended), pull.id.clone()), &());
    }
}

/// Drops a record that ended.
pub(crate) fn forget(txn: &mut Txn<'_>, ended: u64, id: &str) {
    PULLS.delete(txn, &id.to_owned());
    ENDED.delete(txn, &(ended, id.to_owned()));
}

/// The first of those that ended, the oldest first: when, and the id.
pub(crate) fn oldest_ended(from: &impl Reader, most: usize) -> Result<Vec<(u64, String)>, Status> {
    Ok(ENDED.scan(from, &(), None, most)?.into_iter().map(|(key, ())| key).collect())
}

/// The pulls after an id, by id, of which `wanted` says yes.
pub(crate) fn fill(
    from: &impl Reader,
    after: &str,
    page: &mut Page<PullRecord>,
    wanted: impl Fn(&PullRecord) -> bool,
) -> Result<(), Status> {
    let mut after = (!after.is_empty()).then(|| after.to_owned());
    loop {
        let rows = PULLS.scan(from, &(), after.as_ref(), pages::ROWS_AT_ONCE)?;
        let last = rows.len() < pages::ROWS_AT_ONCE;
        for (id, pull) in rows {
            if wanted(&pull) && !page.push(pull) {
                return Ok(());
            }
            after = Some(id);
        }
        if last {
            return Ok(());
        }
    }
}

/// A moment as it is in a key; no pull ended before 1970.
pub(crate) fn seconds(time: types::Time) -> u64 {
    u64::try_from(time.seconds).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use berth_kv::Key;
    use berth_wire::{
        metadata::{PullProgress, Verdict},
        types::Time,
    };
    use prost::Message;

    use super::*;

    #[test]
    fn the_stored_form_stays() {
        assert_eq!("0a".to_owned().to_bytes(), b"0a\0\x01");
        assert_eq!((258_u64, "0a".to_owned()).to_bytes(), b"\0\0\0\0\0\0\x01\x020a\0\x01");
        let time = Some(Time { seconds: 1, nanos: 0 });
        let pull = PullRecord {
            id: "i".into(),
            namespace: "n".into(),
            reference: "r".into(),
            platforms: vec![types::Platform { os: "l".into(), ..types::Platform::default() }],
            snapshotter: "o".into(),
            no_unpack: true,
            labels: [("k".to_owned(), "v".to_owned())].into(),
            priority: 2,
            detached: true,
            plain_http: true,
            with_credentials: true,
            lease: "p".into(),
            created_at: time,
            deadline: time,
            started_at: time,
            starts: 3,
            ended_at: time,
            state: 2,
            target: Some(types::Descriptor { digest: "d".into(), ..types::Descriptor::default() }),
            progress: Some(PullProgress { blobs: 1, blobs_done: 2, total: 3, offset: 4, unpacked: 5, fetched: 6 }),
            code: 4,
            message: "m".into(),
            chain_ids: vec!["c".into()],
            verdict: Some(Verdict { sentence: "v".into(), total_us: 7, ..Verdict::default() }),
            traceparent: "t".into(),
        };
        let bytes: &[u8] = b"\x0a\x01i\x12\x01n\x1a\x01r\x22\x03\x0a\x01l\x2a\x01o\x30\x01\x3a\x06\x0a\x01k\x12\x01v\x40\x02\x48\x01\x50\x01\
            \x58\x01\x62\x01p\x6a\x02\x08\x01\x72\x02\x08\x01\x7a\x02\x08\x01\x80\x01\x03\x8a\x01\x02\x08\x01\x90\x01\x02\
            \x9a\x01\x03\x12\x01d\xa2\x01\x0c\x08\x01\x10\x02\x18\x03\x20\x04\x28\x05\x30\x06\xa8\x01\x04\xb2\x01\x01m\
            \xba\x01\x01c\xc2\x01\x05\x0a\x01v\x10\x07\xca\x01\x01t";
        assert_eq!(pull.encode_to_vec(), bytes);
    }
}
