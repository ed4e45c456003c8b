//! What a store stands on: a directory that only processes die on, or a disk that loses its power with them.

use std::{fs, path::PathBuf};

use anyhow::Result;
use berth_testing::berth::Berth;

use crate::{
    chance::Chance,
    power::{Loss, PowerDisk, Survivor},
};

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The daemon is killed.
    Kill,
    /// The power goes: for the daemon, for all commands and for the disk.
    PowerCut,
}

/// Room for some hundred pulls' worth of blobs, snapshots and logs.
const DISK_BYTES: u64 = 768 << 20;

/// The ground, and `berth` on it.
pub(super) struct Ground {
    // In the order in which they must go.
    pub(super) berth: Berth,
    disk: Option<PowerDisk>,
    boots: usize,
}

impl Ground {
    pub(super) fn new(kind: Kind) -> Result<Self> {
        let mut ground = match kind {
            Kind::Kill => Self { berth: Berth::new()?, disk: None, boots: 0 },
            Kind::PowerCut => {
                let disk = PowerDisk::new(DISK_BYTES)?;
                let mut ground = Self { berth: Berth::at(&disk.path().join("root"))?, disk: Some(disk), boots: 0 };
                ground.boot()?;
                ground
            }
        };
        // A command ends with its daemon: what it was told until then is what counts.
        ground.berth.configure("[pulls]\nwait_for_daemon = \"0s\"\n")?;
        Ok(ground)
    }

    /// The file that says which start of the machine this is.
    pub(super) fn boot_id(&self) -> Option<PathBuf> {
        self.disk.as_ref().map(|_| self.berth.scratch().join(format!("boot-{}", self.boots)))
    }

    fn boot(&mut self) -> Result<()> {
        self.boots += 1;
        if let Some(path) = self.boot_id() {
            fs::write(path, format!("00000000-0000-4000-8000-{:012}\n", self.boots))?;
        }
        Ok(())
    }

    /// The instant at which the power goes, if it does here.
    pub(super) fn cut(&self, chance: &mut Chance, lose_all: bool) -> Option<Survivor> {
        let loss = if lose_all || chance.below(3) == 0 { Loss::All } else { Loss::Some(chance.draw()) };
        self.disk.as_ref().map(|disk| disk.cut(loss))
    }

    /// Leaves the store where it is, for whoever looks for the reason.
    pub(super) fn keep(&mut self) {
        if self.disk.is_none() {
            eprintln!("  the store stays at {}, the daemons' logs beside it", self.berth.root().display());
            self.berth.keep();
        }
    }

    /// The power is back. All who used the store are gone.
    pub(super) fn restart(&mut self, survivor: Option<Survivor>) -> Result<()> {
        if let (Some(disk), Some(survivor)) = (&mut self.disk, survivor) {
            disk.restart(survivor)?;
            self.boot()?;
        }
        Ok(())
    }
}
