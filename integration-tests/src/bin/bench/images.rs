//! The images to pull: on registries that are there, or on one of our own that they are pushed to.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use berth_testing::docker_registry::{DockerRegistry, Tls};

use crate::layouts;

/// One image.
pub(crate) struct Image {
    /// What reports call it: the reference that was given, or a layout's `NAME:TAG`, the same in each run.
    pub(crate) name: String,
    /// What pulls it.
    pub(crate) reference: String,
    /// Where it is by plain HTTP, for whoever looks at what it is made of.
    pub(crate) source: String,
}

/// What to pull.
pub(crate) struct Images {
    images: Vec<Image>,
    registry: Option<DockerRegistry>,
    /// Has the same, over TLS.
    over_tls: Option<DockerRegistry>,
}

impl Images {
    /// Makes references of all that was named.
    pub(crate) fn prepare(named: &[String], tls: Option<Tls>, work: &Path) -> Result<Self> {
        ensure!(work.is_dir(), "{} is no directory", work.display());
        let foreign = named.iter().find(|name| tls.is_some() && !name.starts_with("oci:"));
        if let Some(foreign) = foreign {
            bail!("--tls is for the registry that layouts (oci:DIR) are pushed to; {foreign} is on another one");
        }
        let mut images = Self { images: Vec::new(), registry: None, over_tls: None };
        for name in named {
            let image = match name.strip_prefix("oci:") {
                None => Image { name: name.clone(), reference: name.clone(), source: name.clone() },
                Some(layout) => images.push(layout, tls, work)?,
            };
            let twice = images.images.iter().any(|other| other.source == image.source);
            ensure!(!twice, "{name} was given before, or a layout that is called the same");
            images.images.push(image);
        }
        Ok(images)
    }

    fn push(&mut self, layout: &str, tls: Option<Tls>, work: &Path) -> Result<Image> {
        if self.registry.is_none() {
            let registry = DockerRegistry::start()?;
            self.over_tls = tls.map(|tls| registry.over_tls(tls)).transpose()?;
            self.registry = Some(registry);
        }
        let registry = self.registry.as_ref().context("it was started")?;
        let (dir, tag) = layout.rsplit_once(':').unwrap_or((layout, "latest"));
        let name = Path::new(dir).file_name().context("a layout needs a directory with a name")?.to_string_lossy();
        // A registry has no capitals in names.
        let path = format!("{}:{tag}", name.to_lowercase());
        let source = format!("{}/{path}", registry.host());
        let alone = work.join("layout");
        layouts::alone(Path::new(dir), tag, &alone)?;
        let pushed = Command::new("skopeo")
            .args(["copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false"])
            .args([format!("oci:{}", alone.display()), format!("docker://{source}")])
            .status()
            .context("start skopeo; install the package of that name")?;
        fs::remove_dir_all(&alone)?;
        ensure!(pushed.success(), "skopeo could not push {layout}: {pushed}");
        let reference = format!("{}/{path}", self.over_tls.as_ref().unwrap_or(registry).host());
        Ok(Image { name: format!("{name}:{tag}"), reference, source })
    }

    /// All of them.
    pub(crate) fn list(&self) -> &[Image] {
        &self.images
    }

    /// Bytes that our own registry has sent, by its log; `None` without one.
    pub(crate) fn served(&self) -> Option<u64> {
        let log = self.over_tls.as_ref().or(self.registry.as_ref())?.log();
        let written = |line: &str| -> Option<u64> {
            let (_, rest) = line.split_once("http.response.written=")?;
            rest.split_whitespace().next()?.parse().ok()
        };
        Some(log.lines().filter_map(written).sum())
    }
}
