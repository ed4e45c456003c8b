//! Overlays, of as many layers as the kernel takes (500).
//!
//! They go by the newer calls (fsopen(2), fsconfig(2)), one option each: the option string of mount(2) ends after a page,
//! which some 60 layers of usual paths fill, and one string of fsconfig after 255 bytes. So the calls are made from the
//! directory that all the layers are in, and name them from there. Kernels before 6.8 have no `lowerdir+`; there the
//! option string is used, which short names let hold hundreds of layers.

use std::path::{Path, PathBuf};

use berth_wire::types::Mount;
use rustix::{
    fs::CWD,
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
        fsconfig_set_string, fsmount, fsopen, mount as mount2, move_mount,
    },
};

use crate::{Error, namespace::with_own_directory, options};

/// A page, which is what mount(2) reads of an option string, with its final zero.
const PAGE: usize = 4096;

/// Options that name directories.
const DIRS: [&str; 3] = ["lowerdir", "upperdir", "workdir"];

pub(crate) fn mount(mount: &Mount, target: &Path) -> Result<(), Error> {
    let failed = |errno| Error::Mount { kind: mount.r#type.clone(), target: target.to_owned(), source: errno };
    // The target is opened by the caller's working directory, not by ours.
    let target = std::path::absolute(target).map_err(|_empty| failed(Errno::INVAL))?;
    let (base, options) = shortened(&mount.options);
    with_own_directory(|| {
        if let Some(base) = &base {
            rustix::process::chdir(base).map_err(failed)?;
        }
        match by_pieces(mount, &options, &target) {
            Err(Errno::NOSYS | Errno::INVAL) => by_string(mount, &options, &target),
            done => done.map_err(failed),
        }
    })
}

/// The directory all layers are in, and the options with names from there.
fn shortened(options: &[String]) -> (Option<PathBuf>, Vec<String>) {
    let named =
        |option: &str| option.split_once('=').filter(|(key, _)| DIRS.contains(key)).map(|(_, dirs)| dirs.to_owned());
    let all: Vec<String> = options.iter().filter_map(|option| named(option)).collect();
    let mut paths = all.iter().flat_map(|dirs| dirs.split(':')).map(Path::new);
    let Some(mut base) = paths.next().and_then(Path::parent).map(Path::to_owned) else {
        return (None, options.to_vec());
    };
    for path in paths {
        while !path.parent().is_some_and(|parent| parent.starts_with(&base)) {
            if !base.pop() {
                return (None, options.to_vec());
            }
        }
    }
    if !base.is_absolute() || base.parent().is_none() {
        return (None, options.to_vec());
    }
    let short = |dir: &str| {
        Path::new(dir).strip_prefix(&base).map_or_else(|_outside| dir.to_owned(), |rest| rest.display().to_string())
    };
    let options = options.iter().map(|option| match option.split_once('=') {
        Some((key, dirs)) if DIRS.contains(&key) => {
            format!("{key}={}", dirs.split(':').map(short).collect::<Vec<_>>().join(":"))
        }
        _ => option.clone(),
    });
    let options = options.collect();
    (Some(base), options)
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
            None if option == "rw" => {}
            None => pieces.push(Piece::Flag(option)),
        }
    }
    pieces
}

fn by_pieces(mount: &Mount, options: &[String], target: &Path) -> rustix::io::Result<()> {
    let context = fsopen(mount.r#type.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", mount.source.as_str())?;
    for piece in pieces(options) {
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

fn by_string(mount: &Mount, options: &[String], target: &Path) -> Result<(), Error> {
    let failed = |errno| Error::Mount { kind: mount.r#type.clone(), target: target.to_owned(), source: errno };
    let (flags, data) = options::split(options);
    if data.len() >= PAGE {
        return Err(Error::TooLong(data.len()));
    }
    let data = std::ffi::CString::new(data).map_err(|_zero| failed(Errno::INVAL))?;
    mount2(mount.source.as_str(), target, mount.r#type.as_str(), flags, data.as_c_str()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(options: &[&str]) -> Vec<String> {
        options.iter().map(|option| (*option).to_owned()).collect()
    }

    #[test]
    fn options_become_pieces() {
        let options = owned(&["workdir=/w", "upperdir=/u", "lowerdir=/b:/a", "index=off", "ro", "rw"]);
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

    #[test]
    fn names_are_shortened_to_where_they_differ() {
        let table: [(&[&str], Option<&str>, &[&str]); 5] = [
            (
                &["workdir=/r/s/9/work", "upperdir=/r/s/9/fs", "lowerdir=/r/s/2/fs:/r/s/1/fs", "index=off"],
                Some("/r/s"),
                &["workdir=9/work", "upperdir=9/fs", "lowerdir=2/fs:1/fs", "index=off"],
            ),
            (&["lowerdir=/r/2/fs"], Some("/r/2"), &["lowerdir=fs"]),
            (&["lowerdir=/a:/b"], None, &["lowerdir=/a:/b"]),
            (&["lowerdir=x/a:x/b"], None, &["lowerdir=x/a:x/b"]),
            (&["lowerdir=/rab/x:/ra/x"], None, &["lowerdir=/rab/x:/ra/x"]),
        ];
        for (given, base, short) in table {
            assert_eq!(shortened(&owned(given)), (base.map(PathBuf::from), owned(short)), "{given:?}");
        }
    }

    /// Needs root; does nothing without.
    #[test]
    fn hundreds_of_layers_far_away_are_mounted() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        // Deep enough that no single name fits into one string of fsconfig.
        let deep = scratch.path().join("d".repeat(200)).join("e".repeat(200));
        let dirs: Vec<String> = (0..300)
            .map(|n| {
                let dir = deep.join(n.to_string()).join("fs");
                std::fs::create_dir_all(&dir).unwrap();
                std::fs::write(dir.join(format!("file{n}")), "x").unwrap();
                dir.display().to_string()
            })
            .collect();
        let target = scratch.path().join("target");
        std::fs::create_dir(&target).unwrap();
        let options = vec![format!("lowerdir={}", dirs.join(":"))];
        let mount = Mount { r#type: "overlay".into(), source: "overlay".into(), options };
        let seen = crate::in_private_namespace(|| {
            crate::all(std::slice::from_ref(&mount), &target).unwrap();
            std::fs::read_dir(&target).unwrap().count()
        });
        assert_eq!(seen.unwrap(), 300);
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0, "nobody else sees it");
    }
}
