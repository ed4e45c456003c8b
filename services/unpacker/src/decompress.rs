//! Compression is told by the first bytes of a stream, never by its media type: media types lie.
//!
//! Kinds: gzip (RFC 1952, several members), zstd (RFC 8878, several frames, skippable ones too), and none. What follows
//! the last gzip member must be zeros (padding, as GNU gzip tolerates it) or another member; anything else is damage.

use std::io::{self, BufReader, Read};

use crate::{gzip::Gzip, inflate};

/// Compressed bytes are read in pieces of this size.
const READ_BYTES: usize = 256 << 10;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// As it is.
    None,
}

impl Compression {
    /// By the first bytes of a stream.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::None => "uncompressed",
        }
    }
}

/// Undoes gzip by one of the libraries, for comparing them.
pub fn gunzip<'a>(source: impl Read + Send + 'a, engine: &inflate::Engine) -> impl Read + Send + 'a {
    Gzip::new(BufReader::with_capacity(READ_BYTES, source), (engine.new)())
}

/// Undoes the compression of a stream, whichever it has.
pub fn open<'a>(source: impl Read + Send + 'a) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    open_by(source, READ_BYTES)
}

/// The same, reading so many compressed bytes at once.
pub(crate) fn open_by<'a>(
    source: impl Read + Send + 'a,
    at_once: usize,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut source = BufReader::with_capacity(at_once, source);
    let mut head = [0_u8; 4];
    let mut length = 0;
    while let Some(rest) = head.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match source.read(rest)? {
            0 => break,
            read => length += read,
        }
    }
    let head = head.get(..length).unwrap_or_default().to_vec();
    let compression = Compression::of(&head);
    // The head was at most four bytes of a fresh buffer; put it before the rest again.
    let whole = BufReader::with_capacity(at_once, io::Cursor::new(head).chain(source));
    let reader: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(whole),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
        Compression::Gzip => Box::new(Gzip::new(whole, inflate::fastest())),
    };
    Ok((compression, reader))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn undo(bytes: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        let (compression, mut reader) = open(bytes)?;
        let mut out = Vec::new();
        reader.read_to_end(&mut out)?;
        Ok((compression, out))
    }

    #[test]
    fn told_by_its_bytes() {
        let text = b"some bytes that compress ".repeat(1000);
        let two = [gzip(&text), gzip(b"more")].concat();
        let frames = [
            &[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..],
            &zstd::encode_all(&text[..], 1).unwrap(),
            &zstd::encode_all(&b"more"[..], 1).unwrap(),
        ]
        .concat();
        let joined = [&text[..], b"more"].concat();
        assert_eq!(undo(&gzip(&text)).unwrap(), (Compression::Gzip, text.clone()));
        assert_eq!(undo(&two).unwrap(), (Compression::Gzip, joined.clone()));
        assert_eq!(undo(&frames).unwrap(), (Compression::Zstd, joined));
        assert_eq!(undo(&text).unwrap(), (Compression::None, text.clone()));
        for short in [&b""[..], b"a", b"abc"] {
            assert_eq!(undo(short).unwrap(), (Compression::None, short.to_vec()));
        }
        let padded = [gzip(&text), vec![0; 1000]].concat();
        assert_eq!(undo(&padded).unwrap().1, text);
    }

    #[test]
    fn damage_is_never_taken_silently() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for whole in [gzip(&text), zstd::encode_all(&text[..], 1).unwrap()] {
            for cut in [1, whole.len() / 2, whole.len() - 6] {
                assert!(undo(&whole[..whole.len() - cut]).is_err(), "cut by {cut}");
            }
            let mut flipped = whole.clone();
            flipped[whole.len() / 2] ^= 0x40;
            assert!(undo(&flipped).map(|done| done.1 != text).unwrap_or(true));
        }
        assert!(undo(&[gzip(&text), b"trailing".to_vec()].concat()).is_err());
        assert!(undo(&[gzip(&text), vec![0; 10], b"x".to_vec()].concat()).is_err());
    }
}
