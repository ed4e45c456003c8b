//! Looking for damage: records without files, files without records, and bytes that are not what their name says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read as _},
    sync::Arc,
    time::{Duration, Instant},
};

use berth_model::{Digest, Status};
use berth_wire::content::{
    self as msg,
    check_blobs_reply::{Fault, Finding},
};
use sha2::{Digest as _, Sha256};

use crate::{
    service::optional,
    state::State,
    store::{Layout, Store},
    tables::blobs,
};

/// Blobs looked at in one call, and bytes read: it answers within seconds.
const BLOBS_AT_ONCE: usize = 1000;
const BYTES_AT_ONCE: u64 = 1 << 30;
const BUFFER: usize = 1 << 20;
/// A commit gives a file its name and then its record, a deletion takes them in that order too: what looks wrong counts
/// when it still does after so long.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a look at one blob found.
#[derive(Debug)]
struct Seen {
    fault: Option<(Fault, String)>,
    read: u64,
}

/// Checks some blobs, in order of their digests.
pub(crate) async fn check(state: Arc<State>, request: msg::CheckBlobsRequest) -> Result<msg::CheckBlobsReply, Status> {
    let after = optional(&request.after)?;
    let mut reply = msg::CheckBlobsReply::default();
    let (digests, more) = some(&state, after).await?;
    let last = digests.iter().next_back().copied();
    let mut faulty = BTreeMap::new();
    reply.next = last.filter(|_| more).map(|last| last.to_string()).unwrap_or_default();
    for digest in digests {
        let seen = look(&state, digest, request.deep).await?;
        reply.checked += 1;
        reply.read += seen.read;
        faulty.extend(seen.fault.map(|fault| (digest, fault)));
        if reply.read >= BYTES_AT_ONCE && Some(digest) != last {
            reply.next = digest.to_string();
            break;
        }
    }
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && faulty.values().any(may_be_passing) {
        tokio::time::sleep(LOOK_EVERY).await;
        let suspects: Vec<Digest> = faulty.iter().filter(|(_, fault)| may_be_passing(fault)).map(|(d, _)| *d).collect();
        for digest in suspects {
            match look(&state, digest, request.deep).await?.fault {
                Some(fault) => faulty.insert(digest, fault),
                None => faulty.remove(&digest),
            };
        }
    }
    for (digest, (fault, detail)) in faulty {
        let repaired = request.repair && repair(&state, digest, fault).await?;
        tracing::warn!(%digest, detail, repaired, "the content store is damaged");
        reply.findings.push(Finding { digest: digest.to_string(), fault: fault.into(), detail, repaired });
    }
    Ok(reply)
}

fn may_be_passing(fault: &(Fault, String)) -> bool {
    matches!(fault.0, Fault::NoFile | Fault::NoRecord)
}

/// The next digests that have a record, a file, or both.
async fn some(state: &State, after: Option<Digest>) -> Result<(BTreeSet<Digest>, bool), Status> {
    let rows = state.db.read(move |view| blobs::scan(view, after.as_ref(), BLOBS_AT_ONCE + 1)).await?;
    let mut digests: BTreeSet<Digest> = rows.into_iter().map(|(digest, _)| digest).collect();
    let files = state.files(|store| store.layout().list_blobs()).await?;
    digests.extend(files.into_iter().filter(|file| after.is_none_or(|after| *file > after)));
    let more = digests.len() > BLOBS_AT_ONCE;
    Ok((digests.into_iter().take(BLOBS_AT_ONCE).collect(), more))
}

async fn look(state: &State, digest: Digest, deep: bool) -> Result<Seen, Status> {
    let store = Arc::clone(&state.store);
    let recorded = state.db.read(move |view| blobs::get(view, &digest)).await?.map(|record| record.size);
    berth_api::blocking(move || look_at(&store, &digest, recorded, deep)).await
}

fn look_at(store: &Store, digest: &Digest, recorded: Option<u64>, deep: bool) -> Result<Seen, Status> {
    let found = |fault, detail: String, read| Ok(Seen { fault: Some((fault, detail)), read });
    let path = store.layout().blob(digest);
    match (store.layout().blob_facts(digest)?, recorded) {
        (None, None) => Ok(Seen { fault: None, read: 0 }),
        (None, Some(_)) => found(Fault::NoFile, format!("{} is missing", path.display()), 0),
        (Some((size, _)), Some(recorded)) if size != recorded => {
            found(Fault::WrongSize, format!("{} has {size} bytes, and {recorded} are recorded", path.display()), 0)
        }
        (Some(_), recorded) => {
            if deep {
                match hash(store.layout(), digest) {
                    Ok((actual, read)) if actual != *digest => {
                        return found(
                            Fault::WrongBytes,
                            format!("the bytes of {} have digest {actual}", path.display()),
                            read,
                        );
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        return found(Fault::Unreadable, format!("{} cannot be read: {error}", path.display()), 0);
                    }
                    Ok((_, read)) if recorded.is_some() => return Ok(Seen { fault: None, read }),
                    Ok(_) => {}
                }
            }
            if recorded.is_none() {
                return found(Fault::NoRecord, format!("{} has no record", path.display()), 0);
            }
            Ok(Seen { fault: None, read: 0 })
        }
    }
}

fn hash(layout: &Layout, digest: &Digest) -> io::Result<(Digest, u64)> {
    let mut file = File::open(layout.blob(digest))?;
    let (mut hasher, mut buffer, mut read) = (Sha256::new(), vec![0; BUFFER], 0);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((Digest::from_sha256(hasher.finalize().into()), read)),
            Ok(some) => {
                hasher.update(buffer.get(..some).unwrap_or_default());
                read += some as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Mends what can be mended here. What was wrong is kept aside: somebody may want to look at it.
async fn repair(state: &State, digest: Digest, fault: Fault) -> Result<bool, Status> {
    if matches!(fault, Fault::WrongSize | Fault::WrongBytes | Fault::Unreadable) {
        state.files(move |store| store.put_aside(&digest)).await?;
    }
    state.settle(vec![digest]).await?;
    state.changed();
    Ok(true)
}
