//! mount(2), from the mounts a snapshotter describes: for the command line, and for the unpacker's own look at a tree.
//!
//! What mounts runs on a thread of its own, whose working directory (`CLONE_FS`) or whole mount namespace is not the
//! process's: no other thread sees a change of either.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod error;
mod namespace;
mod options;
mod overlay;

use std::path::Path;

use berth_wire::types::Mount;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount as mount2, mount_bind_recursive, mount_change,
    mount_remount, unmount as umount2,
};

pub use error::Error;
pub use namespace::in_private_namespace;
pub use options::{is_read_only, layers};

/// Mounts all, one over the other. What was mounted when one fails is unmounted again.
pub fn all(mounts: &[Mount], target: &Path) -> Result<(), Error> {
    for (done, mount) in mounts.iter().enumerate() {
        if let Err(error) = one(mount, target) {
            for _ in 0..done {
                drop(unmount(target));
            }
            return Err(error);
        }
    }
    Ok(())
}

fn one(mount: &Mount, target: &Path) -> Result<(), Error> {
    let failed = |errno| Error::Mount { kind: mount.r#type.clone(), target: target.to_owned(), source: errno };
    match mount.r#type.as_str() {
        "bind" => bind(mount, target).map_err(failed),
        "overlay" => overlay::mount(mount, target),
        kind => {
            let (flags, data) = options::split(&mount.options);
            let data = std::ffi::CString::new(data).map_err(|_zero| failed(rustix::io::Errno::INVAL))?;
            mount2(mount.source.as_str(), target, kind, flags, data.as_c_str()).map_err(failed)
        }
    }
}

fn bind(mount: &Mount, target: &Path) -> rustix::io::Result<()> {
    mount_bind_recursive(mount.source.as_str(), target)?;
    mount_change(target, MountPropagationFlags::PRIVATE)?;
    if is_read_only(mount) {
        mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"")?;
    }
    Ok(())
}

/// Unmounts a directory. [`Error::InUse`] if somebody is in it; one that is not mounted is fine.
pub fn unmount(target: &Path) -> Result<(), Error> {
    match umount2(target, UnmountFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(rustix::io::Errno::BUSY) => Err(Error::InUse(target.to_owned())),
        Err(errno) => Err(Error::Unmount { target: target.to_owned(), source: errno }),
    }
}
