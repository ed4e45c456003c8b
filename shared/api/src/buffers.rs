//! Buffers that are used again, and handed on without a copy. A fresh one costs a system call, and a page fault for each of its
//! pages; so those that nobody needs any more are kept, up to a bound.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Where a buffer begins in memory, and what direct writes are multiples of (open(2), `O_DIRECT`): no disk has larger blocks.
pub const ALIGNED: usize = 4096;

/// Buffers of one size.
pub struct Pool {
    free: Mutex<Vec<Box<[u8]>>>,
    size: usize,
    most: usize,
}

impl Pool {
    /// Keeps at most `most` buffers of `size` bytes.
    #[must_use]
    pub fn new(size: usize, most: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::default(), size, most })
    }

    /// A buffer with whatever is in it.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Lent {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = free.unwrap_or_else(|| vec![0; self.size + ALIGNED].into());
        let start = bytes.as_ptr().align_offset(ALIGNED).min(ALIGNED);
        Lent { bytes, start, length: 0, pool: Arc::clone(self) }
    }

    /// Gives back the memory of those that nobody needs now.
    pub fn clear(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A buffer that goes back to its pool when the last piece of it is gone.
pub struct Lent {
    bytes: Box<[u8]>,
    start: usize,
    length: usize,
    pool: Arc<Pool>,
}

impl Lent {
    /// What may still be filled.
    pub fn room(&mut self) -> &mut [u8] {
        let (from, to) = (self.start + self.length, self.start + self.pool.size);
        self.bytes.get_mut(from..to).unwrap_or_default()
    }

    /// So many more bytes were put into the room.
    pub fn filled(&mut self, more: usize) {
        self.length = (self.length + more).min(self.pool.size);
    }

    /// What was put into it, to be shared.
    #[must_use]
    pub fn share(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(self.start..self.start + self.length).unwrap_or_default()
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
        assert_eq!(lent.room().len(), 8);
        lent.room()[..5].copy_from_slice(b"12345");
        lent.filled(5);
        let at = lent.as_ref().as_ptr();
        assert_eq!(at.align_offset(ALIGNED), 0);
        let mut whole = lent.share();
        let first = whole.split_to(2);
        drop(whole);
        assert_ne!(pool.take().as_ref().as_ptr(), at, "a piece is still out");
        assert_eq!(first, &b"12"[..]);
        pool.clear();
        drop(first);
        assert_eq!(pool.take().as_ref().as_ptr(), at);
        let (one, two) = (pool.take(), pool.take());
        drop((one, two));
        assert_eq!(pool.free.lock().unwrap().len(), 1, "no more than it may keep");
    }
}
