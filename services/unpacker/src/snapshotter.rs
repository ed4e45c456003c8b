//! The snapshotters: where one keeps its trees, what making, mounting and settling a snapshot is to it.

use std::{
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use berth_failpoint::{Point, check};
use berth_model::{Status, labels::Labels};
use berth_wire::types::{Mount, Usage};

use crate::{
    Config, idmap, layout,
    layout::Layout,
    native, overlay,
    rebase::{Below, rebase_in},
    unpacked::Unpacked,
    usage,
};

/// One snapshotter.
#[derive(Clone, Debug)]
pub struct Snapshotter {
    name: &'static str,
    layout: Layout,
    way: Way,
}

/// How snapshots are made from their parents.
#[derive(Clone, Debug)]
enum Way {
    /// Each holds what it adds.
    Overlay { options: overlay::Options, upperdir_label: bool },
    /// Each holds everything.
    Native,
}

/// What a snapshot is made from.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The chain below, newest first.
    pub parents: Vec<u64>,
    /// Read-only.
    pub view: bool,
    /// Labels of its record.
    pub labels: Labels,
}

impl Snapshotter {
    /// All that there are.
    #[must_use]
    pub fn all(config: &Config) -> Vec<Self> {
        let layout = |name: &str| Layout::new(&config.root.join(name));
        let options = overlay::Options::probe(&config.mount_options);
        let way = Way::Overlay { options, upperdir_label: config.upperdir_label };
        vec![
            Self { name: overlay::NAME, layout: layout(overlay::NAME), way },
            Self { name: native::NAME, layout: layout(native::NAME), way: Way::Native },
        ]
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its directories.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What containerd's clients ask about.
    #[must_use]
    pub fn capabilities(&self) -> Vec<String> {
        match self.way {
            Way::Overlay { .. } => vec!["rebase".to_owned(), "remap-ids".to_owned()],
            // A commit takes a parent here too; only nothing is won by applying layers to empty snapshots first.
            Way::Native => Vec::new(),
        }
    }

    /// Whether it can work here: says what is missing.
    pub fn check(&self) -> Result<(), Status> {
        if !rustix::process::geteuid().is_root() {
            return Err(Status::failed_precondition(
                "unpacking needs root, for owners, devices and overlayfs; run as root, or use --no-unpack to only fetch",
            ));
        }
        if let Way::Overlay { .. } = self.way {
            overlay::check()?;
        }
        self.layout.make_root()
    }

    /// Makes a snapshot's directories, anew if there are some.
    pub fn make(&self, id: u64, wanted: &Wanted) -> Result<(), Status> {
        let map = idmap::read(&wanted.labels)?;
        self.layout.make(id, |dir| {
            let tree = dir.join("fs");
            layout::make_dir(&tree, 0o755)?;
            let parent = wanted.parents.first().map(|parent| self.layout.tree(*parent));
            match (&self.way, parent) {
                (Way::Overlay { .. }, parent) => {
                    layout::make_dir(&dir.join("work"), 0o711)?;
                    if let Some(parent) = parent {
                        overlay::like(&tree, &parent)?;
                    }
                }
                (Way::Native, Some(parent)) if !wanted.view => native::copy(&parent, &tree)?,
                (Way::Native, _) => {}
            }
            if let Some(map) = map {
                let (uid, gid) = map.root;
                chown(&tree, Some(uid), Some(gid)).map_err(|error| Status::io("set the owner of", &tree, &error))?;
            }
            Ok(())
        })
    }

    /// The mounts of a snapshot that is not committed.
    pub fn mounts(&self, id: u64, wanted: &Wanted) -> Result<Vec<Mount>, Status> {
        let map = idmap::read(&wanted.labels)?;
        Ok(match &self.way {
            Way::Overlay { options, .. } => {
                overlay::mounts(&self.layout, options, id, &wanted.parents, wanted.view, map.as_ref())
            }
            Way::Native => native::mounts(&self.layout, id, &wanted.parents, wanted.view, map.as_ref()),
        })
    }

    /// What a snapshot takes of the disk, counted by a walk.
    pub fn usage(&self, id: u64) -> Result<Usage, Status> {
        usage::of(&self.layout.tree(id))
    }

    /// Labels for answers, beside the recorded ones.
    pub fn label(&self, id: u64, labels: &mut Labels) {
        if let Way::Overlay { upperdir_label: true, .. } = self.way {
            labels.insert(overlay::UPPERDIR_LABEL.to_owned(), self.layout.tree(id).display().to_string());
        }
    }

    /// Settles an unpacked layer over its chain: what it left open, and, where snapshots hold everything, the rest. May be
    /// done again.
    pub fn settle(&self, id: u64, chain: &[u64]) -> Result<Usage, Status> {
        self.settle_in(id, chain, &mut Below::default())
    }

    /// The same as one of a stack, from the bottom up.
    pub fn settle_in(&self, id: u64, chain: &[u64], below: &mut Below) -> Result<Usage, Status> {
        let dir = self.layout.dir(id);
        let kept = Unpacked::kept(&dir)?.ok_or_else(|| {
            Status::failed_precondition(format!("{} holds no unpacked layer; pull the image again", dir.display()))
        })?;
        self.settle_kept(id, chain, kept, below)
    }

    /// Readies a snapshot for its commit: a layer that was applied here is settled, and, if it gets a parent only now, the
    /// snapshot is put on that one's chain.
    pub fn ready(&self, id: u64, onto: Option<&[u64]>) -> Result<Usage, Status> {
        match (Unpacked::kept(&self.layout.dir(id))?, &self.way, onto) {
            (Some(kept), ..) => {
                // Somebody may have written to it since, so what was counted then does not count.
                self.settle_kept(id, onto.unwrap_or_default(), kept, &mut Below::default())?;
            }
            (None, Way::Native, Some(chain)) => native::put_on(&self.layout, id, chain)?,
            (None, ..) => {}
        }
        self.usage(id)
    }

    fn settle_kept(&self, id: u64, chain: &[u64], kept: Unpacked, below: &mut Below) -> Result<Usage, Status> {
        if matches!(self.way, Way::Native) && native::is_put_on(&self.layout, id) {
            return self.usage(id);
        }
        let tree = self.layout.tree(id);
        check(Point::UnpackSettle).map_err(|error| Status::io("settle", &tree, &error))?;
        let residue = kept.residue;
        below.begin(&tree, residue.hidden.is_nothing());
        if !chain.is_empty() {
            residue.hidden.restore(&tree)?;
        }
        // A layer that says nothing of its root shows the one below it.
        let says_root = residue.times.iter().any(|(place, _)| place.is_root());
        let lowers: Vec<PathBuf> = self.lowers(chain).iter().map(|id| self.layout.tree(*id)).collect();
        let settled =
            rebase_in(&tree, &lowers, residue, below).map_err(|error| error.status("being committed", &tree))?;
        if let (false, Some(parent)) = (says_root, lowers.first()) {
            overlay::like(&tree, parent)?;
        }
        match self.way {
            Way::Overlay { .. } => {
                below.settled(&tree, settled.inodes);
                Ok(Usage { inodes: settled.inodes + 1, size: settled.size + 4096 })
            }
            Way::Native => {
                if !chain.is_empty() {
                    native::put_on(&self.layout, id, chain)?;
                }
                self.usage(id)
            }
        }
    }

    /// The snapshots that show, laid one over the other, what is below.
    fn lowers<'a>(&self, chain: &'a [u64]) -> &'a [u64] {
        match self.way {
            Way::Overlay { .. } => chain,
            Way::Native => chain.get(..1).unwrap_or_default(),
        }
    }

    /// After the commit: drops what was kept for it.
    pub fn committed(&self, id: u64) -> Result<(), Status> {
        Unpacked::drop_kept(&self.layout.dir(id));
        match self.way {
            Way::Overlay { .. } => Ok(()),
            Way::Native => native::committed(&self.layout, id),
        }
    }

    /// The commit was refused: the snapshot is what it was.
    pub fn refused(&self, id: u64) -> Result<(), Status> {
        match self.way {
            Way::Overlay { .. } => Ok(()),
            Way::Native => native::refused(&self.layout, id),
        }
    }

    /// The snapshot of ours whose tree this is.
    #[must_use]
    pub fn owner(&self, tree: &Path) -> Option<u64> {
        let id = tree.strip_prefix(self.layout.all()).ok()?.to_str()?.strip_suffix("/fs")?;
        id.parse().ok()
    }
}
