//! Many small blobs in one answer: for who wants the documents of many images, where asking of each takes longer than reading.

use std::{collections::HashSet, fs::File, io::Read as _};

use berth_api::blocking;
use berth_model::{Digest, Status};
use berth_wire::{
    content::{StatBlobReply, StatBlobsRequest},
    convert,
    gateway::{ReadSmallReply, ReadSmallRequest, read_small_reply::Blob},
    metadata::KnownContentsRequest,
};

use crate::{Backend, blob::SMALL};

/// Digests in one request.
const MANY: usize = 256;

/// Bytes of blobs in one answer.
const BYTES: u64 = 4 << 20;

/// Reads those that are there and small; what is the matter with another one is said to who reads it alone.
pub(crate) async fn read(backend: &Backend, request: ReadSmallRequest) -> Result<ReadSmallReply, Status> {
    let ReadSmallRequest { namespace, digests } = request;
    if digests.len() > MANY {
        return Err(Status::invalid_argument(format!("{} blobs in one call, and {MANY} are the most", digests.len())));
    }
    let asked = digests.iter().map(|digest| convert::digest(digest)).collect::<Result<HashSet<Digest>, _>>()?;
    let digests: Vec<String> = asked.iter().map(ToString::to_string).collect();
    let known = backend.metadata.known_contents(KnownContentsRequest { namespace, digests: digests.clone() }).await?;
    let has: HashSet<&String> = known.digests.iter().collect();
    let absent = digests.into_iter().filter(|digest| !has.contains(digest)).collect();
    let there = backend.content.stat_blobs(StatBlobsRequest { digests: known.digests }).await?.blobs;
    let blobs = blocking(move || {
        let mut left = BYTES;
        Ok(there.into_iter().filter_map(|blob| whole(blob, &mut left)).collect())
    });
    Ok(ReadSmallReply { blobs: blobs.await?, absent })
}

/// A blob of so many bytes that its answer still holds, if they are its own.
fn whole(blob: StatBlobReply, left: &mut u64) -> Option<Blob> {
    let rest = left.checked_sub(blob.size).filter(|_rest| blob.size <= SMALL)?;
    let mut data = Vec::with_capacity(usize::try_from(blob.size).ok()?);
    // A file that is longer is damaged.
    File::open(&blob.path).ok()?.take(SMALL + 1).read_to_end(&mut data).ok()?;
    if data.len() as u64 != blob.size || Digest::of(&data).to_string() != blob.digest {
        return None;
    }
    *left = rest;
    Some(Blob { digest: blob.digest, data })
}
