//! What a pull has left: the tree that a container would see, mounted from the store, and the blobs that are kept.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use berth_testing::tree::{self, Tree, read_tree};

use crate::{
    disk::Mounted,
    peers::{Kind, Peer},
    reference::{NOT_SAID, Reference},
};

/// An image in a store.
pub(crate) struct Seen {
    pub(crate) tree: Tree,
    /// What each blob hashes to, by the digest that it is kept under; without `sha256:`.
    pub(crate) blobs: BTreeMap<String, String>,
}

impl Seen {
    /// Looks into the store that a peer has filled, after whatever served it has ended.
    pub(crate) fn of(peer: &Peer, image: &str, store: &Path) -> Result<Self> {
        let (tree, blobs) = match peer.kind() {
            Kind::Berth(program) | Kind::Daemon(program) | Kind::Nats(program) => {
                let mut command = Command::new(program);
                command.arg("--root").arg(store.join("root")).arg("--address").arg(store.join("none.sock"));
                (mounted(&mut command, image, store)?, "root/content/blobs/sha256")
            }
            Kind::Containerd => {
                let tree = peer.with_containerd(store, |socket, _| {
                    let mut command = Command::new("ctr");
                    command.env("CONTAINERD_SNAPSHOTTER", "overlayfs");
                    mounted(command.arg("--address").arg(socket), image, store)
                })?;
                (tree, "root/io.containerd.content.v1.content/blobs/sha256")
            }
            Kind::Umoci => (read_tree(&store.join("bundle/rootfs"))?, "oci/blobs/sha256"),
            Kind::Podman => bail!("podman keeps no blobs"),
        };
        Ok(Self { tree, blobs: hashed(&store.join(blobs))? })
    }

    /// What is otherwise than it should be, one line each.
    pub(crate) fn differences(mut self, expected: &Reference) -> Vec<String> {
        let root = Path::new("");
        if let (Some(found), Some(expected)) = (self.tree.get_mut(root), expected.tree.get(root))
            && expected.mtime == NOT_SAID
        {
            found.mtime = NOT_SAID;
        }
        let mut lines = tree::differences(&expected.tree, &self.tree);
        let kept = |digest: &&String| self.blobs.contains_key(digest.trim_start_matches("sha256:"));
        lines.extend(expected.blobs.iter().filter(|digest| !kept(digest)).map(|digest| format!("{digest} is missing")));
        let damaged = self.blobs.iter().filter(|(digest, found)| digest != found);
        lines.extend(damaged.map(|(digest, found)| format!("sha256:{digest} hashes to sha256:{found}")));
        lines
    }
}

/// The tree of an image, by a program that has `images mount`, as a container of it would have it mounted.
fn mounted(command: &mut Command, image: &str, store: &Path) -> Result<Tree> {
    let target: PathBuf = store.join("seen");
    fs::create_dir(&target)?;
    let done = command.args(["images", "mount", image]).arg(&target).output().context("mount the image")?;
    ensure!(done.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&done.stderr));
    let mounted = Mounted(&target);
    read_tree(mounted.path())
}

fn hashed(directory: &Path) -> Result<BTreeMap<String, String>> {
    let mut blobs = BTreeMap::new();
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        blobs.insert(name, tree::hash(&path)?);
    }
    Ok(blobs)
}
