//! A layer on its way to the store: hashed, compressed, hashed again, and handed over in pieces.

use std::io::{self, Write};

use berth_model::{Digest, Status};
use bytes::Bytes;
use sha2::Digest as _;
use tokio::sync::mpsc::Sender;

/// An OCI layer, as it is (image-spec, `layer.md`).
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// Compressed with gzip.
pub const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Compressed with zstd.
pub const TAR_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Pieces are handed over at this size.
const PIECE: usize = 512 << 10;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Tar,
    /// RFC 1952, without a time.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Packing {
    /// By the media type asked for; none is gzip. UNIMPLEMENTED: another one.
    pub fn of(media_type: &str) -> Result<Self, Status> {
        match media_type {
            TAR => Ok(Self::Tar),
            "" | TAR_GZIP => Ok(Self::Gzip),
            TAR_ZSTD => Ok(Self::Zstd),
            other => Err(Status::new(
                berth_model::Code::Unimplemented,
                format!("a diff as {other:?} is not offered; there are {TAR}, {TAR_GZIP} and {TAR_ZSTD}"),
            )),
        }
    }

    /// The media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Tar => TAR,
            Self::Gzip => TAR_GZIP,
            Self::Zstd => TAR_ZSTD,
        }
    }
}

/// What a layer is when it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Of the bytes handed over.
    pub digest: Digest,
    /// How many these are.
    pub size: u64,
    /// Of the uncompressed bytes.
    pub diff_id: Digest,
}

/// Takes the uncompressed bytes of a layer.
pub struct Packer {
    diff_id: sha2::Sha256,
    encoder: Encoder,
}

enum Encoder {
    Tar(Pieces),
    Gzip(flate2::write::GzEncoder<Pieces>),
    Zstd(zstd::Encoder<'static, Pieces>),
}

impl Packer {
    /// Hands pieces over to `to`.
    pub fn new(packing: Packing, to: Sender<Bytes>) -> io::Result<Self> {
        let pieces = Pieces { to, piece: Vec::with_capacity(PIECE), hash: sha2::Sha256::new(), size: 0 };
        let encoder = match packing {
            Packing::Tar => Encoder::Tar(pieces),
            Packing::Gzip => Encoder::Gzip(flate2::GzBuilder::new().write(pieces, flate2::Compression::default())),
            Packing::Zstd => {
                let mut encoder = zstd::Encoder::new(pieces, 0)?;
                encoder.include_checksum(true)?;
                Encoder::Zstd(encoder)
            }
        };
        Ok(Self { diff_id: sha2::Sha256::new(), encoder })
    }

    /// Ends the stream.
    pub fn finish(self) -> io::Result<Packed> {
        let mut pieces = match self.encoder {
            Encoder::Tar(pieces) => pieces,
            Encoder::Gzip(encoder) => encoder.finish()?,
            Encoder::Zstd(encoder) => encoder.finish()?,
        };
        pieces.hand_over()?;
        Ok(Packed {
            digest: Digest::from_sha256(pieces.hash.finalize().into()),
            size: pieces.size,
            diff_id: Digest::from_sha256(self.diff_id.finalize().into()),
        })
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.encoder {
            Encoder::Tar(to) => to.write_all(bytes)?,
            Encoder::Gzip(to) => to.write_all(bytes)?,
            Encoder::Zstd(to) => to.write_all(bytes)?,
        }
        self.diff_id.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Pieces {
    to: Sender<Bytes>,
    piece: Vec<u8>,
    hash: sha2::Sha256,
    size: u64,
}

impl Pieces {
    fn hand_over(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.hash.update(&piece);
        self.size += piece.len() as u64;
        // Whoever takes the pieces knows why it stopped.
        self.to.blocking_send(piece.into()).map_err(|_ended| io::Error::other("nobody takes the layer any more"))
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.hand_over()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_of_what_is_handed_over() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7) as u8).collect();
        for packing in [Packing::Tar, Packing::Gzip, Packing::Zstd] {
            assert_eq!(Packing::of(packing.media_type()).unwrap(), packing);
            let (to, mut from) = tokio::sync::mpsc::channel(100);
            let mut packer = Packer::new(packing, to).unwrap();
            packer.write_all(&bytes).unwrap();
            let packed = packer.finish().unwrap();
            let mut got = Vec::new();
            while let Ok(piece) = from.try_recv() {
                got.extend_from_slice(&piece);
            }
            assert_eq!((packed.digest, packed.size), (Digest::of(&got), got.len() as u64));
            assert_eq!(packed.diff_id, Digest::of(&bytes));
            let (_, mut undone) = crate::decompress::open(&got[..]).unwrap();
            let mut back = Vec::new();
            io::Read::read_to_end(&mut undone, &mut back).unwrap();
            assert!(back == bytes, "{packing:?}");
        }
        assert_eq!(Packing::of("text/plain").unwrap_err().code, berth_model::Code::Unimplemented);
        assert_eq!(Packing::of("").unwrap(), Packing::Gzip);
    }
}
