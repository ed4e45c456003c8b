//! Mount options as mount(8) spells them: what they mean to the calls, and which directories they name.

use std::path::PathBuf;

use berth_wire::types::Mount;
use rustix::mount::MountFlags;

/// Options that are flags of mount(2), not words for the file system.
const FLAGS: &[(&str, MountFlags)] = &[
    ("ro", MountFlags::RDONLY),
    ("nosuid", MountFlags::NOSUID),
    ("nodev", MountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC),
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("relatime", MountFlags::RELATIME),
    ("sync", MountFlags::SYNCHRONOUS),
    ("rw", MountFlags::empty()),
    ("defaults", MountFlags::empty()),
];

/// The flags among options, and the rest joined.
pub(crate) fn split(options: &[String]) -> (MountFlags, String) {
    let (mut flags, mut rest) = (MountFlags::empty(), Vec::new());
    for option in options {
        match FLAGS.iter().find(|(word, _)| word == option) {
            Some((_, flag)) => flags |= *flag,
            None => rest.push(option.as_str()),
        }
    }
    (flags, rest.join(","))
}

/// Whether nothing can be written through it.
#[must_use]
pub fn is_read_only(mount: &Mount) -> bool {
    mount.options.iter().any(|option| option == "ro")
        || (mount.r#type == "overlay" && value(mount, "upperdir").is_none())
}

/// The value of an option.
pub(crate) fn value<'a>(mount: &'a Mount, key: &str) -> Option<&'a str> {
    mount.options.iter().find_map(|option| option.strip_prefix(key)?.strip_prefix('='))
}

/// The directories that mounts show one over the other, newest first; `None` if they are not plain binds and overlays, or
/// more than one mount. No mounts show no directory.
#[must_use]
pub fn layers(mounts: &[Mount]) -> Option<Vec<PathBuf>> {
    let mount = match mounts {
        [] => return Some(Vec::new()),
        [only] => only,
        _ => return None,
    };
    // Owners that are shown otherwise than they are stored.
    if value(mount, "uidmap").or(value(mount, "gidmap")).is_some() {
        return None;
    }
    match mount.r#type.as_str() {
        "bind" => Some(vec![PathBuf::from(&mount.source)]),
        "overlay" => {
            let lower = value(mount, "lowerdir").into_iter().flat_map(|dirs| dirs.split(':'));
            Some(value(mount, "upperdir").into_iter().chain(lower).map(PathBuf::from).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Mount { r#type: kind.into(), source: "/s".into(), options }
    }

    #[test]
    fn flags_are_told_from_words() {
        let (flags, rest) = split(&mount("tmpfs", &["ro", "nosuid", "size=1m", "x"]).options);
        assert_eq!((flags, rest.as_str()), (MountFlags::RDONLY | MountFlags::NOSUID, "size=1m,x"));
    }

    #[test]
    fn layers_as_a_table() {
        let paths = |names: &[&str]| Some(names.iter().map(PathBuf::from).collect::<Vec<_>>());
        for (mounts, found) in [
            (vec![], paths(&[])),
            (vec![mount("bind", &["ro"])], paths(&["/s"])),
            (vec![mount("overlay", &["lowerdir=/b:/a"])], paths(&["/b", "/a"])),
            (vec![mount("overlay", &["workdir=/w", "upperdir=/u", "lowerdir=/a"])], paths(&["/u", "/a"])),
            (vec![mount("overlay", &["uidmap=0:1:2", "lowerdir=/b:/a"])], None),
            (vec![mount("ext4", &[])], None),
            (vec![mount("bind", &[]), mount("bind", &[])], None),
        ] {
            assert_eq!(layers(&mounts), found, "{mounts:?}");
        }
    }
}
