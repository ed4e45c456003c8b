//! Why something cannot be mounted.

use std::{io, path::PathBuf};

use rustix::io::Errno;

/// Why something cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("mount {kind} on {}: {source}", target.display())]
    Mount {
        /// The type of the file system.
        kind: String,
        /// Where to.
        target: PathBuf,
        /// What the kernel said.
        source: Errno,
    },
    /// The kernel refused to unmount.
    #[error("unmount {}: {source}", target.display())]
    Unmount {
        /// What.
        target: PathBuf,
        /// What the kernel said.
        source: Errno,
    },
    /// Somebody is in it.
    #[error("unmount {}: it is in use", .0.display())]
    InUse(PathBuf),
    /// Too many layers for this kernel.
    #[error("this kernel cannot take {0} bytes of mount options; it needs to be 6.8 or newer for so many layers")]
    TooLong(usize),
    /// No thread, or none with a namespace of its own.
    #[error("{doing}: {source}")]
    Thread {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}
