//! An independent opinion on what a layer does to a tree: `umoci`, which applies layers to one directory in turn.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use berth_testing::tree::{Tree, read_tree};

/// Unpacks the tag `latest` of an OCI layout below `directory`, and reads the tree.
pub fn unpacked_by_umoci(layout: &Path, directory: &Path) -> Result<Tree> {
    let bundle: PathBuf = directory.join("bundle");
    let done = Command::new("umoci")
        .args(["unpack", "--image"])
        .arg(format!("{}:latest", layout.display()))
        .arg(&bundle)
        .output()
        .context("run umoci")?;
    ensure!(done.status.success(), "umoci unpack failed: {}", String::from_utf8_lossy(&done.stderr));
    read_tree(&bundle.join("rootfs"))
}
