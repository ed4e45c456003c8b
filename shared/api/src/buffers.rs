//! Buffers that are used again, and handed on without a copy. A fresh one costs a system call, and a page fault for each of its
//! pages; so those that nobody needs any more are kept, up to a bound.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

/// Where a buffer begins in memory, and what direct writes are multiples of (open(2), `O_DIRECT`): no disk has larger blocks.
pub const ALIGNED: usize = 4096;

/// A huge page of most machines; where they are larger, pages are as they always are. Memory for so many bytes of buffers is
/// asked for at once.
const HUGE: usize = 2 << 20;

/// Buffers of one size.
pub struct Pool {
    free: Mutex<Vec<BytesMut>>,
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
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = free.pop().unwrap_or_else(|| {
            let mut slab = slab(self.size, (HUGE / self.size).clamp(1, self.most.max(1)));
            // The first ones are taken first.
            while slab.len() > self.size {
                free.push(slab.split_off(slab.len() - self.size));
            }
            slab
        });
        drop(free);
        Lent { bytes, length: 0, pool: Arc::clone(self) }
    }

    /// Gives back the memory of those that nobody needs now.
    pub fn clear(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Memory for so many buffers of a size, one after the other. Much of it may be in huge pages, with one fault for each of
/// those (Documentation/admin-guide/mm/transhuge.rst of the kernel).
fn slab(size: usize, buffers: usize) -> BytesMut {
    let length = buffers * size;
    let aligned = if length >= HUGE { HUGE } else { ALIGNED };
    let mut slab = BytesMut::zeroed(length + aligned);
    let _before = slab.split_to(slab.as_ptr().align_offset(aligned).min(aligned));
    slab.truncate(length);
    // madvise(2): an advice, which may be refused.
    #[expect(unsafe_code, reason = "no safe crate offers it for memory that one has; it does not change what is in it")]
    unsafe {
        libc::madvise(slab.as_mut_ptr().cast(), slab.len(), libc::MADV_HUGEPAGE);
    }
    slab
}

/// A buffer that goes back to its pool when the last piece of it is gone.
pub struct Lent {
    bytes: BytesMut,
    length: usize,
    pool: Arc<Pool>,
}

impl Lent {
    /// What may still be filled.
    pub fn room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.length..).unwrap_or_default()
    }

    /// So many more bytes were put into the room.
    pub fn filled(&mut self, more: usize) {
        self.length = (self.length + more).min(self.pool.size);
    }

    /// Only the first so many bytes of what was put into it.
    pub fn shorten(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// What was put into it, to be shared.
    #[must_use]
    pub fn share(self) -> Bytes {
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
