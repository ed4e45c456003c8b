//! Applies a layer onto mounts.
//!
//! Where the mounts end in one empty directory (the upper one of an overlay, or a bind), the layer is applied right there,
//! as an unpacking does, and settled over what is below. In all other cases it is applied to a directory of its own first
//! and then laid on what the mounts show, mounted where nobody else sees it; so it is the kernel that knows how its file
//! system keeps what is gone.
//!
//! On an empty snapshot of ours without parent, what the layer leaves open is kept beside it: a parent may come with the
//! commit, and then nothing of the layer is lost.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use berth_model::Status;
use berth_wire::types::Mount;

use crate::{
    apply,
    hidden::Hidden,
    layout::{self, Layout, Scratch},
    merge, overlay,
    pipeline::{self, Streamed},
    rebase::rebase,
    residue::Residue,
    snapshotter::Snapshotter,
    tree::{self, Tree},
    unpacked::Unpacked,
    view,
    writers::Writers,
};

/// What a layer is applied onto.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A directory, shown as it is.
    Plain(PathBuf),
    /// The upper directory of an overlay, and those below, newest first.
    Overlay {
        /// What is written to.
        upper: PathBuf,
        /// What is below.
        lowers: Vec<PathBuf>,
        /// How to mount it.
        mount: Mount,
    },
    /// Anything else that can be mounted.
    Mounts(Vec<Mount>),
}

impl Target {
    /// Of these mounts. INVALID_ARGUMENT: none. FAILED_PRECONDITION: nothing can be written there.
    pub fn of(mounts: &[Mount]) -> Result<Self, Status> {
        let Some(last) = mounts.last() else {
            return Err(Status::invalid_argument("there are no mounts to apply the layer to"));
        };
        view::refuse_mapped(mounts)?;
        if berth_mount::is_read_only(last) {
            return Err(Status::failed_precondition(format!(
                "the mounts to apply the layer to are read-only: {} {}",
                last.r#type, last.source
            )));
        }
        Ok(match (mounts, berth_mount::layers(mounts)) {
            ([one], Some(layers)) if one.r#type == "bind" => match layers.into_iter().next() {
                Some(dir) => Self::Plain(dir),
                None => Self::Mounts(mounts.to_vec()),
            },
            ([one], Some(layers)) => match layers.split_first() {
                Some((upper, lowers)) => {
                    Self::Overlay { upper: upper.clone(), lowers: lowers.to_vec(), mount: one.clone() }
                }
                None => Self::Mounts(mounts.to_vec()),
            },
            _ => Self::Mounts(mounts.to_vec()),
        })
    }

    /// The directory that is written to, if that is known.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        match self {
            Self::Plain(dir) | Self::Overlay { upper: dir, .. } => Some(dir),
            Self::Mounts(_) => None,
        }
    }

    /// Flushes what was written.
    pub fn sync(&self) -> Result<(), Status> {
        match self {
            Self::Plain(dir) | Self::Overlay { upper: dir, .. } => layout::flush(dir),
            Self::Mounts(mounts) => {
                let source = mounts.last().map(|mount| PathBuf::from(&mount.source));
                source.filter(|source| source.is_dir()).map_or(Ok(()), |source| layout::flush(&source))
            }
        }
    }
}

/// What it takes to apply one layer.
pub struct Made<'a> {
    /// Whose directories we know.
    pub snapshotters: &'a [Snapshotter],
    /// Where there is room.
    pub layout: &'a Layout,
    /// Its name in errors.
    pub layer: &'a str,
    /// Who makes its files.
    pub writers: &'a Writers,
    /// Whether nobody wants it any more.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl Made<'_> {
    /// Applies the layer that is read from `source`.
    pub fn apply(&self, target: &Target, source: impl Read + Send) -> Result<Streamed, Status> {
        match target {
            Target::Plain(dir) if is_empty(dir)? => {
                let (residue, streamed) = self.unpack(dir, source)?;
                self.on_nothing(dir, residue, &streamed)?;
                Ok(streamed)
            }
            Target::Overlay { upper, lowers, .. } if is_empty(upper)? => {
                let (residue, streamed) = self.unpack(upper, source)?;
                if lowers.is_empty() {
                    self.keep(upper, residue, &streamed)?;
                } else {
                    self.settle(upper, lowers, residue)?;
                }
                Ok(streamed)
            }
            Target::Plain(dir) => {
                let scratch = self.layout.scratch()?;
                let (residue, streamed) = self.unpack(&made_in(&scratch, "layer")?, source)?;
                self.lay(&scratch, dir, residue, merge::Hides::Now)?;
                Ok(streamed)
            }
            // An overlay of nothing else cannot be mounted; what comes below it comes later.
            Target::Overlay { upper, lowers, .. } if lowers.is_empty() => {
                let scratch = self.layout.scratch()?;
                let (residue, streamed) = self.unpack(&made_in(&scratch, "layer")?, source)?;
                self.lay(&scratch, upper, residue, merge::Hides::Always)?;
                Ok(streamed)
            }
            Target::Overlay { mount, .. } => self.mounted(std::slice::from_ref(mount), source),
            Target::Mounts(mounts) => self.mounted(mounts, source),
        }
    }

    fn unpack(&self, dir: &Path, source: impl Read + Send) -> Result<(Residue, Streamed), Status> {
        pipeline::run(source, |archive| apply::apply(archive, dir, self.writers, self.cancelled))
            .map_err(|error| error.status(self.layer, dir))
    }

    fn settle(&self, tree: &Path, lowers: &[PathBuf], residue: Residue) -> Result<(), Status> {
        rebase(tree, lowers, residue).map(|_| ()).map_err(|error| error.status(self.layer, tree))
    }

    /// The layer is all there is, for now.
    fn on_nothing(&self, dir: &Path, mut residue: Residue, streamed: &Streamed) -> Result<(), Status> {
        let hidden = Hidden::take(dir)?;
        if self.owner(dir).is_some() {
            residue.hidden = hidden;
            return self.keep(dir, residue, streamed);
        }
        self.settle(dir, &[], residue)
    }

    fn owner(&self, dir: &Path) -> Option<u64> {
        self.snapshotters.iter().find_map(|snapshotter| snapshotter.owner(dir))
    }

    fn keep(&self, tree: &Path, residue: Residue, streamed: &Streamed) -> Result<(), Status> {
        match tree.parent().filter(|_| self.owner(tree).is_some()) {
            Some(snapshot) => Unpacked::keep(residue, streamed, snapshot),
            None => self.settle(tree, &[], residue),
        }
    }

    fn mounted(&self, mounts: &[Mount], source: impl Read + Send) -> Result<Streamed, Status> {
        let scratch = self.layout.scratch()?;
        let (residue, streamed) = self.unpack(&made_in(&scratch, "layer")?, source)?;
        let at = made_in(&scratch, "mounted")?;
        let laid = berth_mount::in_private_namespace(|| {
            berth_mount::all(mounts, &at).map_err(|error| view::failed(&error))?;
            self.lay(&scratch, &at, residue, merge::Hides::Now)
        });
        laid.map_err(|error| view::failed(&error))??;
        Ok(streamed)
    }

    /// Lays the layer on what is below a directory.
    fn lay(&self, scratch: &Scratch, onto: &Path, residue: Residue, hides: merge::Hides) -> Result<(), Status> {
        let layer = scratch.path().join("layer");
        let says_root = residue.times.iter().any(|(place, _)| place.is_root());
        self.settle(&layer, &[onto.to_owned()], residue)?;
        if !says_root {
            overlay::like(&layer, onto)?;
        }
        merge::onto(&layer, onto, merge::Files::Copied, hides)
            .map_err(|refused| refused.status("lay a layer on", &layer, onto))
    }
}

fn made_in(scratch: &Scratch, name: &str) -> Result<PathBuf, Status> {
    let path = scratch.path().join(name);
    layout::make_dir(&path, 0o755)?;
    Ok(path)
}

fn is_empty(dir: &Path) -> Result<bool, Status> {
    let failed = |errno: rustix::io::Errno| Status::io("list", dir, &errno.into());
    let tree = Tree::open(dir).map_err(failed)?;
    Ok(tree::names(std::os::fd::AsFd::as_fd(tree.root().fd.as_ref())).map_err(failed)?.is_empty())
}
