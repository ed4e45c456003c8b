//! The bytes of a blob, read from its file: for `berth.v1` and for containerd's content store alike.
//!
//! A blob that is read whole is hashed on its way, and its last piece is held back until the digest is right: bytes that
//! changed on the disk never pass as the blob. Who reads parts checks them himself, as containerd's clients do.

use std::{
    fs::File,
    io::{self, Cursor, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use berth_api::blocking;
use berth_model::{Digest, Status};
use berth_wire::{content::StatBlobRequest, metadata::GetContentRequest};
use futures::Stream;
use sha2::Digest as _;
use tokio::io::{AsyncReadExt as _, Take};
use tokio_util::either::Either;

use crate::Backend;

/// A part of at most so many bytes is read where its file is opened: to hand each step to another thread takes longer than
/// the step itself. Most documents are smaller.
pub(crate) const SMALL: u64 = 64 << 10;

/// A part of a blob's file: it can be read to its end, whatever becomes of the blob.
pub(crate) struct Part {
    bytes: Take<Either<Cursor<Vec<u8>>, tokio::fs::File>>,
    path: PathBuf,
    /// Of a blob that is read whole: what its bytes must hash to, and their hash so far.
    whole: Option<(Digest, sha2::Sha256)>,
}

/// Opens a part of a blob that the namespace has. `size` 0, or past the end: to the end. NOT_FOUND; OUT_OF_RANGE if
/// `offset` is past the end.
pub(crate) async fn open(
    backend: &Backend,
    namespace: String,
    digest: String,
    offset: u64,
    size: u64,
) -> Result<Part, Status> {
    let record = GetContentRequest { namespace, digest: digest.clone() };
    backend.metadata.get_content(record).await?;
    part(backend, digest, offset, size).await
}

/// Opens a blob, whoever has it.
pub(crate) async fn whole(backend: &Backend, digest: &Digest) -> Result<Part, Status> {
    part(backend, digest.to_string(), 0, 0).await
}

async fn part(backend: &Backend, digest: String, offset: u64, size: u64) -> Result<Part, Status> {
    let blob = backend.content.stat_blob(StatBlobRequest { digest }).await?;
    if offset > blob.size {
        return Err(Status::out_of_range(format!(
            "read past object length: offset {offset} is past the end of blob {}, which has {} bytes",
            blob.digest, blob.size
        )));
    }
    let left = match size {
        0 => blob.size - offset,
        size => size.min(blob.size - offset),
    };
    let whole =
        if left == blob.size { Some((berth_wire::convert::digest(&blob.digest)?, sha2::Sha256::new())) } else { None };
    let path = PathBuf::from(blob.path);
    let opened = path.clone();
    let bytes =
        blocking(move || read_or_open(&opened, offset, left).map_err(|error| Status::io("read blob", &opened, &error)));
    Ok(Part { bytes: bytes.await?.take(left), path, whole })
}

/// The bytes of a small part, otherwise the file at its beginning.
fn read_or_open(path: &Path, offset: u64, size: u64) -> io::Result<Either<Cursor<Vec<u8>>, tokio::fs::File>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    if size > SMALL {
        return Ok(Either::Right(tokio::fs::File::from_std(file)));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.take(size).read_to_end(&mut bytes)?;
    Ok(Either::Left(Cursor::new(bytes)))
}

impl Part {
    /// Its bytes, in pieces of at most `most`.
    pub(crate) fn pieces(self, most: usize) -> impl Stream<Item = Result<Vec<u8>, Status>> + Send {
        futures::stream::try_unfold(self, move |mut part| async move {
            let Self { bytes, path, whole } = &mut part;
            let mut data = Vec::with_capacity(most.min(usize::try_from(bytes.limit()).unwrap_or(most)));
            let mut piece = bytes.take(most as u64);
            piece.read_to_end(&mut data).await.map_err(|error| Status::io("read blob", path, &error))?;
            if let Some((expected, hash)) = whole {
                // A piece takes a fraction of a millisecond: no longer than handing it to another thread would.
                hash.update(&data);
                if bytes.limit() == 0 {
                    check(expected, hash.clone(), path)?;
                }
            }
            match (data.is_empty(), bytes.limit()) {
                (true, 0) => Ok(None),
                (true, missing) => {
                    let path = path.display();
                    Err(Status::data_loss(format!("{path} is {missing} bytes shorter than the blob")))
                }
                (false, _) => Ok(Some((data, part))),
            }
        })
    }
}

fn check(expected: &Digest, hash: sha2::Sha256, path: &std::path::Path) -> Result<(), Status> {
    let found = Digest::from_sha256(hash.finalize().into());
    if found == *expected {
        return Ok(());
    }
    Err(Status::data_loss(format!(
        "blob {expected} is damaged: the bytes in {} have digest {found}; `berth content fsck --deep --repair` mends it",
        path.display()
    )))
}
