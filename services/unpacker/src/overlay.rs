//! The overlay snapshotter: each snapshot is what it adds to its parents; overlayfs shows them together.

use std::{
    fs,
    path::{Path, PathBuf},
};

use berth_model::Status;
use berth_wire::types::Mount;

use crate::{
    facts::Facts,
    idmap::IdMap,
    layout::Layout,
    tree::{self, Tree},
};

/// The name of this snapshotter.
pub const NAME: &str = "overlayfs";
/// In answers, if it is wished for: where a snapshot's upper directory is.
pub const UPPERDIR_LABEL: &str = "containerd.io/snapshot/overlay.upperdir";

/// How overlays are mounted here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Options that come after the directories.
    pub more: Vec<String>,
}

impl Options {
    /// What the settings say, and what this kernel wants; a setting comes before what we would choose.
    #[must_use]
    pub fn probe(settings: &[String]) -> Self {
        // Kernels that have no index feature refuse the option. With it on, a lower layer could not be in two overlays.
        let index = Path::new("/sys/module/overlay/parameters/index").exists();
        Self::decide(settings, in_user_namespace(), index)
    }

    fn decide(settings: &[String], in_user_namespace: bool, index: bool) -> Self {
        let mut more = settings.to_vec();
        let given = |key: &str| {
            settings.iter().any(|option| option.split_once('=').map_or(option.as_str(), |(name, _)| name) == key)
        };
        // There overlayfs may not use the attributes that only the machine's root can set.
        if in_user_namespace && !given("userxattr") {
            more.push("userxattr".to_owned());
        }
        if index && !given("index") {
            more.push("index=off".to_owned());
        }
        Self { more }
    }
}

/// Whether root here is not root of the machine (user_namespaces(7)).
fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let first: Vec<&str> = map.lines().next().unwrap_or_default().split_whitespace().collect();
    !first.is_empty() && first != ["0", "0", "4294967295"]
}

/// Whether the kernel can: says what is missing.
pub fn check() -> Result<(), Status> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|line| line.split_whitespace().last() == Some("overlay")) {
        return Ok(());
    }
    Err(Status::failed_precondition(
        "this kernel has no overlayfs; load it with `modprobe overlay`, use --snapshotter native, \
         or use --no-unpack to only fetch",
    ))
}

/// Makes a directory like another: owner, mode, attributes, time.
pub fn like(dir: &Path, model: &Path) -> Result<(), Status> {
    let failed =
        |path: &Path, errno: rustix::io::Errno| Status::io("copy the root directory's facts of", path, &errno.into());
    let from = Tree::open(model).map_err(|errno| failed(model, errno))?;
    let to = Tree::open(dir).map_err(|errno| failed(dir, errno))?;
    let stat = rustix::fs::fstat(from.root().fd.as_ref()).map_err(|errno| failed(model, errno))?;
    let facts = Facts::read(from.root(), b".", &stat).map_err(|errno| failed(model, errno))?;
    facts.put(to.root(), b".", tree::kind(&stat)).map_err(|error| failed(dir, error.errno))?;
    crate::facts::set_mtime(to.root(), b".", facts.mtime).map_err(|errno| failed(dir, errno))
}

/// The mounts of a snapshot that is not committed, as containerd spells them. `parents`: newest first.
#[must_use]
pub fn mounts(
    layout: &Layout,
    options: &Options,
    id: u64,
    parents: &[u64],
    view: bool,
    map: Option<&IdMap>,
) -> Vec<Mount> {
    let shown = |path: PathBuf| path.display().to_string();
    let mut words: Vec<String> =
        map.map(|map| vec![format!("uidmap={}", map.uid), format!("gidmap={}", map.gid)]).unwrap_or_default();
    let bind = |mut words: Vec<String>, id: u64| {
        words.push(if view { "ro" } else { "rw" }.to_owned());
        words.push("rbind".to_owned());
        vec![Mount { r#type: "bind".into(), source: shown(layout.tree(id)), options: words }]
    };
    match parents {
        [] => bind(words, id),
        [only] if view => bind(words, *only),
        parents => {
            if !view {
                words.push(format!("workdir={}", shown(layout.work(id))));
                words.push(format!("upperdir={}", shown(layout.tree(id))));
            }
            let lower: Vec<String> = parents.iter().map(|parent| shown(layout.tree(*parent))).collect();
            words.push(format!("lowerdir={}", lower.join(":")));
            words.extend(options.more.iter().cloned());
            vec![Mount { r#type: "overlay".into(), source: "overlay".into(), options: words }]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_containerds() {
        let layout = Layout::new(Path::new("/r"));
        let options = Options { more: vec!["volatile".into(), "index=off".into()] };
        let map = IdMap { uid: "0:7:9".into(), gid: "0:8:9".into(), root: (7, 8) };
        let fs = |id: u64| format!("/r/snapshots/{id}/fs");
        let lower = |more: &str| format!("lowerdir={}:{},volatile,index=off{more}", fs(3), fs(2));
        let upper = format!("workdir=/r/snapshots/9/work,upperdir={}", fs(9));
        for (parents, view, map, wanted) in [
            (&[][..], false, None, format!("bind {} rw,rbind", fs(9))),
            (&[], true, None, format!("bind {} ro,rbind", fs(9))),
            (&[], false, Some(&map), format!("bind {} uidmap=0:7:9,gidmap=0:8:9,rw,rbind", fs(9))),
            (&[3], true, None, format!("bind {} ro,rbind", fs(3))),
            (&[3, 2], false, None, format!("overlay overlay {upper},{}", lower(""))),
            (&[3, 2], false, Some(&map), format!("overlay overlay uidmap=0:7:9,gidmap=0:8:9,{upper},{}", lower(""))),
            (&[3, 2], true, None, format!("overlay overlay {}", lower(""))),
        ] {
            let mounts = mounts(&layout, &options, 9, parents, view, map);
            let found = format!("{} {} {}", mounts[0].r#type, mounts[0].source, mounts[0].options.join(","));
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn options_as_a_table() {
        for (settings, user, index, wanted) in [
            (&[][..], false, false, &[][..]),
            (&[], false, true, &["index=off"]),
            (&[], true, true, &["userxattr", "index=off"]),
            (&["index=on"], false, true, &["index=on"]),
            (&["volatile", "userxattr"], true, true, &["volatile", "userxattr", "index=off"]),
        ] {
            let settings: Vec<String> = settings.iter().map(|option| (*option).to_owned()).collect();
            assert_eq!(Options::decide(&settings, user, index).more, wanted, "{settings:?} {user} {index}");
        }
    }
}
