//! A file system that is full soon: a tmpfs of a given size.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

use crate::wait::{Seen, wait_for};

/// A mounted tmpfs. Unmounted when dropped.
pub struct TinyDisk {
    directory: tempfile::TempDir,
}

impl TinyDisk {
    /// Mounts one of `bytes` bytes. Needs root.
    pub fn new(bytes: u64) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let options = format!("size={bytes},mode=0755");
        mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("mount a tmpfs on {} (needs root)", directory.path().display()))?;
        Ok(Self { directory })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Makes it larger or smaller.
    pub fn resize(&self, bytes: u64) -> Result<()> {
        self.remount(MsFlags::empty(), &format!("size={bytes}"))
    }

    /// Nobody can change anything on it any more.
    pub fn make_read_only(&self) -> Result<()> {
        self.remount(MsFlags::MS_RDONLY, "")
    }

    fn remount(&self, flags: MsFlags, options: &str) -> Result<()> {
        let none = None::<&str>;
        // A child that another thread is just starting may hold our files open until its exec.
        wait_for("a remount", Duration::from_secs(5), || {
            match mount(none, self.path(), none, MsFlags::MS_REMOUNT | flags, Some(options)) {
                Err(Errno::EBUSY) => Seen::NotYet(Errno::EBUSY),
                result => Seen::Yes(result),
            }
        })
        .with_context(|| format!("remount {}", self.path().display()))
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.path(), MntFlags::MNT_DETACH) {
            eprintln!("unmount {}: {error}", self.path().display());
        }
        let _gone_with_the_directory = fs::remove_dir(self.path());
    }
}
