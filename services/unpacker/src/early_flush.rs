//! Has the disk begin to write a part of a file that is done with: sync_file_range(2), which only libc knows.

use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Begins, and does not wait. Only a hint: what fails is told by the flush at the end.
#[expect(unsafe_code, reason = "a system call that no safe crate offers")]
pub(crate) fn begin(fd: BorrowedFd<'_>, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) else { return };
    // SAFETY: takes numbers only; the descriptor is open as long as it is borrowed.
    let _hint = unsafe { libc::sync_file_range(fd.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}
