//! Mounting for the person at the terminal: `berth_mount`, and who is in the way when it cannot unmount.

use std::{path::Path, process::Command};

use berth_wire::types::Mount;

/// Mounts all, one over the other.
pub(crate) fn all(mounts: &[Mount], target: &Path) -> anyhow::Result<()> {
    Ok(berth_mount::all(mounts, target)?)
}

/// Unmounts a directory. One that was unmounted by hand is fine: what is left is the snapshot.
pub(crate) fn unmount(target: &Path) -> anyhow::Result<()> {
    match berth_mount::unmount(target) {
        Ok(()) => Ok(()),
        Err(error @ berth_mount::Error::InUse(_)) => {
            let users = Command::new("fuser").arg("-m").arg(target).output();
            let users = users.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
            let users = if users.is_empty() { users } else { format!(" (processes {users})") };
            anyhow::bail!("{error}{users}; leave it first")
        }
        Err(error) => Err(error.into()),
    }
}
