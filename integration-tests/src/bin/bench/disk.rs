//! A file system of its own for each pull: ext4 in a file, made anew each time.
//!
//! Not the machine's: where that is an ext4 without a journal, it gives an inode that was deleted less than some minutes ago to
//! no other file, and looks at each of them whenever a file is made (`find_inode_bit` in the kernel's `fs/ext4/ialloc.c`).
//! Stores that were removed after the last pull, and whatever else was deleted nearby, make creating files up to ten times
//! as slow.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::interrupted;

/// From now on nobody else sees what this program mounts: a copy of it in another mount namespace would keep the disk in use
/// after it was unmounted here.
pub(crate) fn hide_mounts() -> Result<()> {
    let none = None::<&str>;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")
}

/// A block device over a file without a name. The kernel takes both away when nobody has it open any more, however this
/// program ends.
pub(crate) struct Disk {
    device: PathBuf,
    mounted: PathBuf,
    _open: File,
}

impl Disk {
    /// One of `gigabytes`, below the directory `work`. The file has holes: it takes no more place than what is written.
    pub(crate) fn new(work: &Path, gigabytes: u64) -> Result<Self> {
        let (image, mounted) = (work.join("disk"), work.join("mounted"));
        File::create(&image)?.set_len(gigabytes << 30).with_context(|| format!("make {}", image.display()))?;
        std::fs::create_dir(&mounted).with_context(|| format!("make {}", mounted.display()))?;
        // Direct: what is written is not kept in memory twice.
        let device = output(Command::new("losetup").args(["--find", "--show", "--direct-io=on"]).arg(&image))?;
        let device = PathBuf::from(device.trim());
        let open = File::open(&device).with_context(|| format!("open {}", device.display()))?;
        // It is in use, and so goes when it is not (losetup(8)).
        output(Command::new("losetup").arg("--detach").arg(&device))?;
        std::fs::remove_file(&image).with_context(|| format!("remove {}", image.display()))?;
        Ok(Self { device, mounted, _open: open })
    }

    /// Makes its file system anew and mounts it, unless the run is to end.
    pub(crate) fn fresh(&self) -> Result<Mounted<'_>> {
        interrupted::check()?;
        // Not discarded: the file keeps its blocks, and all pulls but the first find them there.
        output(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "nodiscard"]).arg(&self.device))?;
        let options = Some("noinit_itable");
        mount(Some(&self.device), &self.mounted, Some("ext4"), MsFlags::empty(), options)
            .with_context(|| format!("mount {} on {}", self.device.display(), self.mounted.display()))?;
        Ok(Mounted(&self.mounted))
    }
}

/// A mounted file system. Unmounted when dropped.
pub(crate) struct Mounted<'a>(pub(crate) &'a Path);

impl Mounted<'_> {
    pub(crate) fn path(&self) -> &Path {
        self.0
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.0, MntFlags::empty()) {
            eprintln!("unmount {}: {error}", self.0.display());
        }
    }
}

fn output(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(done.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
