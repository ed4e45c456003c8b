//! The bytes of a layer in large pieces that are handed on without a copy, in buffers that are used again.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

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

/// Buffers of one size. A fresh one costs a system call, and a page fault for each of its pages; so those that nobody needs
/// any more are kept, up to a bound.
pub(crate) struct Pool {
    free: Mutex<Vec<Box<[u8]>>>,
    size: usize,
    most: usize,
}

impl Pool {
    /// Keeps at most `most` buffers of `size` bytes.
    pub(crate) fn new(size: usize, most: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::new(Vec::new()), size, most })
    }

    /// A buffer with whatever is in it.
    pub(crate) fn take(self: &Arc<Self>) -> Lent {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Lent { bytes: free.unwrap_or_else(|| vec![0; self.size].into()), length: 0, pool: Arc::clone(self) }
    }
}

/// A buffer that goes back to its pool when the last piece of it is gone.
pub(crate) struct Lent {
    bytes: Box<[u8]>,
    length: usize,
    pool: Arc<Pool>,
}

impl Lent {
    /// What may still be filled.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.length..).unwrap_or_default()
    }

    /// So many more bytes were put into the room.
    pub(crate) fn filled(&mut self, more: usize) {
        self.length = (self.length + more).min(self.bytes.len());
    }

    /// What was put into it, to be shared.
    pub(crate) fn share(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.pool.most {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_piece_is_gone() {
        let pool = Pool::new(8, 1);
        let mut lent = pool.take();
        lent.room()[..5].copy_from_slice(b"12345");
        lent.filled(5);
        let at = lent.as_ref().as_ptr();
        let mut whole = lent.share();
        let first = whole.split_to(2);
        drop(whole);
        assert_ne!(pool.take().as_ref().as_ptr(), at, "a piece is still out");
        assert_eq!(first, &b"12"[..]);
        pool.free.lock().unwrap().clear();
        drop(first);
        assert_eq!(pool.take().as_ref().as_ptr(), at);
        let (one, two) = (pool.take(), pool.take());
        drop((one, two));
        assert_eq!(pool.free.lock().unwrap().len(), 1, "no more than it may keep");
    }
}
