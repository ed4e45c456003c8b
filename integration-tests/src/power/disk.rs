//! A mounted ext4 on a medium that can lose its power.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use berth_testing::wait::{Seen, wait_for};
use fuser::BackgroundSession;
use rustix::mount::{UnmountFlags, unmount};

use super::{
    device::{self, FILE, Pace, Shared},
    medium::{Loss, Medium},
};

/// A mounted file system. Everything goes when this is dropped.
pub struct PowerDisk {
    // In the order in which they must go.
    mounted: Option<Mounted>,
    scratch: tempfile::TempDir,
    bytes: u64,
    cuts: usize,
    pace: Pace,
}

struct Mounted {
    path: PathBuf,
    device: PathBuf,
    medium: Shared,
    _served: BackgroundSession,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Detached: a process that dies just now may hold it for a moment, and the loop device holds its file for as long.
        for path in [&self.path, &self.device] {
            if let Err(error) = unmount(path, UnmountFlags::DETACH) {
                eprintln!("unmount {}: {error}", path.display());
            }
        }
    }
}

impl PowerDisk {
    /// An empty file system of so many bytes. Needs root, /dev/fuse, loop devices and mkfs.ext4.
    pub fn new(bytes: u64) -> Result<Self> {
        Self::paced(bytes, Pace::default())
    }

    /// The same, on a disk that takes its time.
    pub fn paced(bytes: u64, pace: Pace) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("power").tempdir()?;
        let mut disk = Self { mounted: None, scratch, bytes, cuts: 0, pace };
        disk.switch_on(Medium::default(), true)?;
        Ok(disk)
    }

    /// Where it is mounted: always the same place.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.scratch.path().join("mounted")
    }

    /// Writes in the disk's cache right now.
    #[must_use]
    pub fn unflushed(&self) -> usize {
        self.mounted.as_ref().map_or(0, |mounted| mounted.medium.lock().unflushed())
    }

    /// The instant of the cut: what the disk will hold when it is switched on again. Whoever writes on does so in vain.
    #[must_use]
    pub fn cut(&self, loss: Loss) -> Survivor {
        let medium = self.mounted.as_ref().map(|mounted| mounted.medium.lock().survivor(loss));
        Survivor(medium.unwrap_or_default())
    }

    /// Mounts what survived. All who used the old file system are gone by now.
    pub fn restart(&mut self, survivor: Survivor) -> Result<()> {
        drop(self.mounted.take());
        self.cuts += 1;
        self.switch_on(survivor.0, false)
    }

    fn switch_on(&mut self, medium: Medium, fresh: bool) -> Result<()> {
        let (device, path) = (self.scratch.path().join(format!("device-{}", self.cuts)), self.path());
        for directory in [&device, &path] {
            std::fs::create_dir_all(directory)?;
        }
        let medium = Shared::new(medium);
        let session = device::serve(medium.clone(), self.bytes, &device, self.pace)?;
        let file = device.join(FILE);
        if fresh {
            // No trimming, no tables left to make in the background: both are noise.
            run(Command::new("mkfs.ext4")
                .args(["-q", "-F", "-E", "nodiscard,lazy_itable_init=1", "-m", "0"])
                .arg(&file))?;
            medium.lock().flush();
        }
        // What mount itself opens for a moment may be open still in a child that another thread just starts.
        wait_for("the disk to be mounted", Duration::from_secs(10), || {
            let mount =
                || run(Command::new("mount").args(["-t", "ext4", "-o", "loop,noinit_itable"]).args([&file, &path]));
            match mount() {
                Err(error) if error.to_string().contains("busy") => Seen::NotYet(error),
                done => Seen::Yes(done),
            }
        })?;
        self.mounted = Some(Mounted { path, device, medium, _served: session });
        Ok(())
    }
}

/// A disk without power.
#[derive(Debug)]
pub struct Survivor(Medium);

fn run(command: &mut Command) -> Result<()> {
    let done = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn only_what_was_flushed_is_there_after_a_cut() -> Result<()> {
        let mut disk = PowerDisk::new(64 << 20)?;
        let write = |name: &str| fs::write(disk.path().join(name), vec![7; 100_000]);
        write("safe")?;
        File::open(disk.path().join("safe"))?.sync_all()?;
        File::open(disk.path())?.sync_all()?;
        write("unsafe")?;
        // Down to the disk, but not through its cache: a name that the disk may forget.
        let survivor = disk.cut(Loss::All);
        disk.restart(survivor)?;
        assert_eq!(fs::read(disk.path().join("safe"))?, vec![7; 100_000]);
        let lost = fs::read(disk.path().join("unsafe")).is_ok_and(|bytes| bytes == vec![7; 100_000]);
        assert!(!lost, "what nobody flushed has survived");
        Ok(())
    }

    /// Hands dirty pages to the disk and waits until it has them.
    fn write_out(file: &File) -> Result<()> {
        use std::os::fd::AsRawFd as _;
        let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        #[expect(unsafe_code, reason = "nothing safe wraps it; it takes a file that is open and touches no memory")]
        let done = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, all) };
        ensure!(done == 0, "sync_file_range: {}", std::io::Error::last_os_error());
        Ok(())
    }

    #[test]
    fn the_file_system_survives_any_loss() -> Result<()> {
        let mut disk = PowerDisk::new(64 << 20)?;
        for seed in 0..6_u8 {
            let name = disk.path().join(format!("kept-{seed}"));
            fs::write(&name, [seed; 5000])?;
            File::open(&name)?.sync_all()?;
            for number in 0..50 {
                fs::write(disk.path().join(format!("noise-{seed}-{number}")), vec![seed; 9000])?;
            }
            // Their bytes go down to the disk, its cache is not flushed.
            for number in 0..50 {
                write_out(&File::open(disk.path().join(format!("noise-{seed}-{number}")))?)?;
            }
            assert!(disk.unflushed() > 50, "{} writes in the cache", disk.unflushed());
            let survivor = disk.cut(Loss::Some(seed.into()));
            disk.restart(survivor)?;
            for before in 0..=seed {
                let bytes = fs::read(disk.path().join(format!("kept-{before}")))?;
                assert_eq!(bytes, [before; 5000], "after cut {seed}");
            }
        }
        Ok(())
    }
}
