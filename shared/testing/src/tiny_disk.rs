//! A file system that is full soon: a tmpfs of a given size.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A mounted tmpfs. Unmounted when dropped.
pub struct TinyDisk {
    directory: tempfile::TempDir,
}

impl TinyDisk {
    /// Mounts one of `bytes` bytes. Needs root.
    pub fn new(bytes: u64) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let options = format!("size={bytes},mode=0755");
        mount(
            Some("tmpfs"),
            directory.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
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
        mount(none, self.path(), none, MsFlags::MS_REMOUNT | flags, Some(options))
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
