//! mount(2), from the mounts the snapshotter describes.
//!
//! Overlays go by the newer calls (fsopen(2), fsconfig(2)), one option each: the option string of mount(2) ends after a
//! page, which some 60 layers fill. Kernels before 6.8 have no `lowerdir+`; there the string is used.

use std::{path::Path, process::Command};

use anyhow::Context as _;
use berth_wire::types::Mount;
use rustix::{
    fs::CWD,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount as mount2,
        mount_bind_recursive, mount_change, mount_remount, move_mount, unmount as umount2,
    },
};

/// Mounts all, one over the other.
pub(crate) fn all(mounts: &[Mount], target: &Path) -> anyhow::Result<()> {
    for mount in mounts {
        one(mount, target).with_context(|| format!("mount {} on {}", mount.r#type, target.display()))?;
    }
    Ok(())
}

fn one(mount: &Mount, target: &Path) -> anyhow::Result<()> {
    if mount.r#type != "bind" {
        return match by_pieces(mount, target) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL) => by_string(mount, target),
            Err(errno) => Err(errno.into()),
        };
    }
    mount_bind_recursive(mount.source.as_str(), target)?;
    mount_change(target, MountPropagationFlags::PRIVATE)?;
    if mount.options.iter().any(|option| option == "ro") {
        mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"")?;
    }
    Ok(())
}

/// What an option is to fsconfig(2).
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Flag(&'a str),
    Value(&'a str, &'a str),
}

/// Options one by one; lower directories from the newest to the oldest.
fn pieces(options: &[String]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for option in options {
        match option.split_once('=') {
            Some(("lowerdir", dirs)) => pieces.extend(dirs.split(':').map(|dir| Piece::Value("lowerdir+", dir))),
            Some((key, value)) => pieces.push(Piece::Value(key, value)),
            None => pieces.push(Piece::Flag(option)),
        }
    }
    pieces
}

fn by_pieces(mount: &Mount, target: &Path) -> rustix::io::Result<()> {
    let context = fsopen(mount.r#type.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", mount.source.as_str())?;
    for piece in pieces(&mount.options) {
        match piece {
            Piece::Flag(flag) => fsconfig_set_flag(&context, flag)?,
            Piece::Value(key, value) => fsconfig_set_string(&context, key, value)?,
        }
    }
    fsconfig_create(&context)?;
    // Without a directory to write to, an overlay is read-only by itself.
    let made = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    move_mount(&made, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn by_string(mount: &Mount, target: &Path) -> anyhow::Result<()> {
    let options = std::ffi::CString::new(mount.options.join(","))?;
    if options.as_bytes().len() >= 4096 {
        anyhow::bail!(
            "this kernel cannot take {} bytes of mount options; it needs to be 6.8 or newer for so many layers",
            options.as_bytes().len()
        );
    }
    mount2(mount.source.as_str(), target, mount.r#type.as_str(), MountFlags::empty(), options.as_c_str())?;
    Ok(())
}

/// Unmounts a directory.
pub(crate) fn unmount(target: &Path) -> anyhow::Result<()> {
    match umount2(target, UnmountFlags::empty()) {
        Ok(()) => Ok(()),
        // It was unmounted by hand; what is left is the snapshot.
        Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(rustix::io::Errno::BUSY) => {
            let users = Command::new("fuser")
                .arg("-m")
                .arg(target)
                .output()
                .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
            let users = users
                .ok()
                .filter(|users| !users.is_empty())
                .map(|pids| format!(" (processes {pids})"))
                .unwrap_or_default();
            anyhow::bail!("unmount {}: it is in use{users}; leave it first", target.display())
        }
        Err(errno) => Err(errno).with_context(|| format!("unmount {}", target.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_pieces() {
        let options: Vec<String> = ["workdir=/w", "upperdir=/u", "lowerdir=/b:/a", "index=off", "ro"]
            .iter()
            .map(|text| (*text).to_owned())
            .collect();
        use Piece::{Flag, Value};
        assert_eq!(
            pieces(&options),
            [
                Value("workdir", "/w"),
                Value("upperdir", "/u"),
                Value("lowerdir+", "/b"),
                Value("lowerdir+", "/a"),
                Value("index", "off"),
                Flag("ro")
            ]
        );
    }
}
