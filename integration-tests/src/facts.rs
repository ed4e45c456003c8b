//! What the program says about its store, read from its own output; and a mounted image.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use berth_testing::{
    berth::Berth,
    tree::{Tree, read_tree},
};
use serde_json::Value;

/// The lines of an output, without the empty ones.
#[must_use]
pub fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The names of the images, sorted.
pub fn image_names(berth: &Berth) -> Result<Vec<String>> {
    let mut names = lines(&berth.ok(["images", "ls", "--quiet"])?);
    names.sort();
    Ok(names)
}

/// The digests in the content store, sorted.
pub fn blobs(berth: &Berth) -> Result<Vec<String>> {
    let mut digests = lines(&berth.ok(["content", "ls", "--quiet"])?);
    digests.sort();
    Ok(digests)
}

/// The names of the snapshots, sorted.
pub fn snapshots(berth: &Berth) -> Result<Vec<String>> {
    let mut names = lines(&berth.ok(["snapshots", "ls", "--quiet"])?);
    names.sort();
    Ok(names)
}

/// Everything that happened so far, oldest first.
pub fn events(berth: &Berth) -> Result<Vec<Value>> {
    let text = berth.ok(["events", "--since", "0", "--until-now"])?;
    lines(&text).iter().map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))).collect()
}

/// An image mounted by `berth images mount`, unmounted when dropped.
pub struct Mounted<'a> {
    berth: &'a Berth,
    directory: PathBuf,
}

impl<'a> Mounted<'a> {
    /// Mounts an image; `options` as `--rw`.
    pub fn new(berth: &'a Berth, reference: &str, options: &[&str]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("mnt").tempdir_in(berth.scratch())?.keep();
        let shown = directory.to_str().context("a directory with a plain name")?;
        let mut args = vec!["images", "mount"];
        args.extend(options);
        args.extend([reference, shown]);
        berth.ok(args)?;
        Ok(Self { berth, directory })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// All of it.
    pub fn tree(&self) -> Result<Tree> {
        read_tree(&self.directory)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let shown = self.directory.display().to_string();
        if let Err(error) = self.berth.run(["images", "unmount", "--rm", &shown]) {
            eprintln!("unmount {shown}: {error}");
        }
        // Whatever the program under test did: leave no mount behind.
        let _not_mounted_any_more = rustix::mount::unmount(&self.directory, rustix::mount::UnmountFlags::DETACH);
    }
}
