//! The bytes of a layer in large pieces that are handed on without a copy.

use std::io::{self, Read};

use bytes::Bytes;

/// Bytes that come in pieces.
pub trait Pieces: Read {
    /// The next bytes, at most so many; none at the end.
    fn piece(&mut self, most: usize) -> io::Result<Bytes>;
}

/// Reads by a copy, for who wants no pieces.
pub(crate) fn read(from: &mut impl Pieces, buffer: &mut [u8]) -> io::Result<usize> {
    let part = from.piece(buffer.len())?;
    if let Some(to) = buffer.get_mut(..part.len()) {
        to.copy_from_slice(&part);
    }
    Ok(part.len())
}

/// A plain slice is one piece; it is copied.
impl Pieces for &[u8] {
    fn piece(&mut self, most: usize) -> io::Result<Bytes> {
        let (piece, rest) = self.split_at(most.min(self.len()));
        *self = rest;
        Ok(Bytes::copy_from_slice(piece))
    }
}
