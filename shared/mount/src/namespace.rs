//! Threads with a working directory, or a mount namespace, of their own.

use std::io;

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::Error;

/// Runs `work` on a thread that shares neither mounts nor working directory with the rest of the process: what it mounts
/// nobody else sees, and it is gone when the thread ends, however it ends. Needs CAP_SYS_ADMIN.
pub fn in_private_namespace<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R, Error> {
    on_thread(CloneFlags::CLONE_NEWNS, move || {
        // Without this, mounts made here would be passed on to where ours came from.
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private)
            .map_err(|errno| Error::Thread { doing: "make the mounts of a namespace private", source: errno.into() })?;
        Ok(work())
    })
}

/// Runs `work` on a thread with a working directory of its own.
pub(crate) fn with_own_directory<R: Send>(work: impl FnOnce() -> Result<R, Error> + Send) -> Result<R, Error> {
    on_thread(CloneFlags::CLONE_FS, work)
}

fn on_thread<R: Send>(apart: CloneFlags, work: impl FnOnce() -> Result<R, Error> + Send) -> Result<R, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mount".to_owned()).spawn_scoped(scope, move || {
            unshare(apart).map_err(|errno| Error::Thread {
                doing: "leave the mount namespace of the process (this needs root)",
                source: errno.into(),
            })?;
            work()
        });
        let thread = thread.map_err(|source| Error::Thread { doing: "start a thread", source })?;
        thread.join().unwrap_or_else(|_panic| {
            Err(Error::Thread { doing: "run a thread", source: io::Error::other("it panicked") })
        })
    })
}
