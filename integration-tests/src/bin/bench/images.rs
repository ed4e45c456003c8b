//! The images to pull: on registries that are there, or on one of our own that they are pushed to.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use berth_testing::docker_registry::DockerRegistry;

/// What to pull.
pub(crate) struct Images {
    references: Vec<String>,
    registry: Option<DockerRegistry>,
}

impl Images {
    /// Makes references of all that was named.
    pub(crate) fn prepare(named: &[String], work: &Path) -> Result<Self> {
        let mut images = Self { references: Vec::new(), registry: None };
        for name in named {
            let reference = match name.strip_prefix("oci:") {
                None => name.clone(),
                Some(layout) => images.push(layout)?,
            };
            images.references.push(reference);
        }
        ensure!(work.is_dir(), "{} is no directory", work.display());
        Ok(images)
    }

    fn push(&mut self, layout: &str) -> Result<String> {
        let registry = match &mut self.registry {
            Some(registry) => registry,
            empty => empty.insert(DockerRegistry::start()?),
        };
        let (dir, tag) = layout.rsplit_once(':').unwrap_or((layout, "latest"));
        let name = Path::new(dir).file_name().context("a layout needs a directory with a name")?;
        let name = name.to_string_lossy().to_lowercase();
        let reference = format!("{}/{name}:{tag}", registry.host());
        let pushed = Command::new("skopeo")
            .args(["copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false"])
            .args([format!("oci:{dir}:{tag}"), format!("docker://{reference}")])
            .status()
            .context("start skopeo; install the package of that name")?;
        ensure!(pushed.success(), "skopeo could not push {layout}: {pushed}");
        Ok(reference)
    }

    /// References to pull.
    pub(crate) fn list(&self) -> &[String] {
        &self.references
    }

    /// Bytes that our own registry has sent, by its log; `None` without one.
    pub(crate) fn served(&self) -> Option<u64> {
        let log = self.registry.as_ref()?.log();
        let written = |line: &str| -> Option<u64> {
            let (_, rest) = line.split_once("http.response.written=")?;
            rest.split_whitespace().next()?.parse().ok()
        };
        Some(log.lines().filter_map(written).sum())
    }
}
