//! Has the disk begin to write a part of a file that is done with, so that the flush at the end finds little left:
//! sync_file_range(2), which only libc knows.

use std::{fs::File, os::fd::AsRawFd as _};

/// Begins, and does not wait. Only a hint: what fails is told by the flush at the end.
#[expect(unsafe_code, reason = "a system call that no safe crate offers")]
pub fn begin(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) else { return };
    // SAFETY: takes numbers only; the descriptor is open as long as the file is borrowed.
    let _hint = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}
