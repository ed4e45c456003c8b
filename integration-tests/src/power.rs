//! Power cuts: a disk that keeps what is written to it in a volatile cache until it is told to flush, as real disks do,
//! and forgets the cache, or any part of it, when the power goes.
//!
//! ```text
//! berth  ->  ext4  ->  loop device  ->  a file in a FUSE file system of this process  ->  Medium
//! ```
//!
//! Nothing is left out between the program and the medium: its page cache dies with the file system that is cut off, the
//! file system's journal is replayed by the real ext4 when the survivor is mounted, and a flush counts only if it came all
//! the way down as FLUSH. Writes that were not flushed survive all, none, or in any mixture, also torn in themselves.
//!
//! What it does not show: disks that lie about flushes, and memory that goes bad.

mod device;
mod disk;
mod medium;

pub use self::{
    device::Pace,
    disk::{PowerDisk, Survivor},
    medium::{Loss, Medium},
};
