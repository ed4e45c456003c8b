//! What an image is, by programs that know nothing of Berth: gzip and zstd unpack its layers, GNU tar extracts them one over
//! the other.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use berth_integration_tests::gnu_tar::apply_by_gnu_tar;
use berth_testing::tree::{Tree, read_tree};
use nix::sys::{
    stat::{UtimensatFlags, utimensat},
    time::TimeSpec,
};

use crate::source::Source;

/// The time of a root that no layer has an entry for: an image says nothing of it.
pub(crate) const NOT_SAID: (i64, i64) = (0, 1);

/// An image as it should be.
pub(crate) struct Reference {
    pub(crate) tree: Tree,
    /// Digests of its configuration and its layers.
    pub(crate) blobs: Vec<String>,
}

impl Reference {
    /// Asks the registry for the image's layers and extracts them below an empty directory.
    pub(crate) fn of(image: &str, directory: &Path) -> Result<Self> {
        let source = Source::of(image)?;
        let root = directory.join("reference");
        fs::create_dir(&root)?;
        let time = TimeSpec::new(NOT_SAID.0, NOT_SAID.1);
        utimensat(nix::fcntl::AT_FDCWD, &root, &time, &time, UtimensatFlags::NoFollowSymlink)?;
        for digest in &source.stack {
            let mut blob = Vec::new();
            source.blob(digest)?.read_to_end(&mut blob)?;
            let layer = unpacked(blob).with_context(|| format!("unpack {digest}"))?;
            apply_by_gnu_tar(&layer, &root).with_context(|| format!("extract {digest}"))?;
        }
        let mut blobs = source.stack;
        blobs.push(source.config);
        Ok(Self { tree: read_tree(&root)?, blobs })
    }
}

/// The archive in a blob, whichever way it was packed.
fn unpacked(blob: Vec<u8>) -> Result<Vec<u8>> {
    let program = match blob.get(..4) {
        Some([0x1f, 0x8b, ..]) => "gzip",
        Some([0x28, 0xb5, 0x2f, 0xfd]) => "zstd",
        _ => return Ok(blob),
    };
    let mut command = Command::new(program);
    command.args(["--decompress", "--stdout"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {program}; install the package of that name"))?;
    let mut input = child.stdin.take().context("it takes input")?;
    let (written, done) = std::thread::scope(|scope| {
        let writing = scope.spawn(move || input.write_all(&blob));
        let done = child.wait_with_output();
        (writing.join(), done)
    });
    let done = done?;
    ensure!(done.status.success(), "{program} failed ({})", done.status);
    written.map_err(|_panic| anyhow::anyhow!("the thread that writes to {program} panicked"))??;
    Ok(done.stdout)
}
