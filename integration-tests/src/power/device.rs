//! A file system of one file, `disk`, whose bytes are a [`Medium`]'s.

use std::{
    ffi::OsStr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    WriteFlags,
};

use super::medium::{BLOCK, Medium};

/// The name of the file.
pub(super) const FILE: &str = "disk";
const FILE_NODE: INodeNo = INodeNo(2);
/// Nothing of it ever changes but its bytes.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A medium that several hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<Mutex<Medium>>);

impl Shared {
    pub(super) fn new(medium: Medium) -> Self {
        Self(Arc::new(Mutex::new(medium)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Medium> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How slow the disk is. It does one thing at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// What a mebibyte takes to be written.
    pub mebibyte: Duration,
    /// What a flush takes.
    pub flush: Duration,
}

/// Serves the medium as a file in this directory until the session is dropped.
pub(super) fn serve(medium: Shared, bytes: u64, directory: &Path, pace: Pace) -> Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("medium".to_owned())];
    fuser::spawn_mount(Device { medium, bytes, pace }, directory, &config)
        .with_context(|| format!("mount a FUSE file system on {} (needs root and /dev/fuse)", directory.display()))
}

struct Device {
    medium: Shared,
    bytes: u64,
    pace: Pace,
}

impl Device {
    fn facts(&self, node: INodeNo) -> Option<FileAttr> {
        let (kind, size) = match node {
            INodeNo::ROOT => (FileType::Directory, 0),
            FILE_NODE => (FileType::RegularFile, self.bytes),
            _ => return None,
        };
        Some(FileAttr {
            ino: node,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: u32::try_from(BLOCK).unwrap_or(4096),
            flags: 0,
        })
    }
}

/// What this disk is for: it takes its time.
fn take(time: Duration) {
    if !time.is_zero() {
        // sleeps: being slow is what it is for.
        std::thread::sleep(time);
    }
}

impl Filesystem for Device {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.facts(FILE_NODE) {
            Some(facts) if parent == INodeNo::ROOT && name == FILE => reply.entry(&FOR_EVER, &facts, Generation(0)),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.facts(node) {
            Some(facts) => reply.attr(&FOR_EVER, &facts),
            None => reply.error(Errno::ENOENT),
        }
    }

    // The loop device sets times. They are nobody's business.
    fn setattr(
        &self,
        _: &Request,
        node: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<fuser::TimeOrNow>,
        _: Option<fuser::TimeOrNow>,
        _: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.facts(node) {
            Some(facts) => reply.attr(&FOR_EVER, &facts),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // No second cache in between.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = self.bytes.saturating_sub(offset).min(u64::from(size));
        reply.data(&self.medium.lock().read(offset, usize::try_from(left).unwrap_or(0)));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if offset + data.len() as u64 > self.bytes {
            return reply.error(Errno::ENOSPC);
        }
        self.medium.lock().write(offset, data);
        take(self.pace.mebibyte.mul_f64(data.len() as f64 / f64::from(1 << 20)));
        reply.written(u32::try_from(data.len()).unwrap_or(0));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Of close(2), which makes nothing durable.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.medium.lock().flush();
        take(self.pace.flush);
        reply.ok();
    }
}
