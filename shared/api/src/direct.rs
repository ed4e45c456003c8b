//! Writing past the page cache (open(2), `O_DIRECT`), where the file system does that.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _, unix::fs::OpenOptionsExt as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::buffers::ALIGNED;

/// A file of which parts are written so.
#[derive(Clone, Debug)]
pub struct Direct {
    file: Arc<File>,
    refused: Arc<AtomicBool>,
}

impl Direct {
    /// The same file, opened once more. `None`: the file system does not do it.
    #[must_use]
    pub fn of(file: &File) -> Option<Self> {
        // By its descriptor, whatever its name is now.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let file = File::options().write(true).custom_flags(libc::O_DIRECT).open(path).ok()?;
        Some(Self { file: Arc::new(file), refused: Arc::default() })
    }

    /// Whether it still works.
    #[must_use]
    pub fn works(&self) -> bool {
        !self.refused.load(Ordering::Relaxed)
    }

    /// Writes whole blocks from aligned memory to an aligned place; through the page cache (`otherwise`) what cannot be.
    pub fn write_all_at(&self, mut bytes: &[u8], mut at: u64, otherwise: &File) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write_at(bytes, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    at += written as u64;
                    if written % ALIGNED != 0 {
                        return otherwise.write_all_at(bytes, at);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // open(2): what is not aligned as this disk wants it, or not at all on this file system.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                    self.refused.store(true, Ordering::Relaxed);
                    return otherwise.write_all_at(bytes, at);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
