//! The RocksDB behind a [`crate::Db`]: open, or closed for a moment while it is opened again after an error of the disk.

use std::{
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use berth_model::Status;
use rocksdb::{ColumnFamilyDescriptor, DB, DBRecoveryMode, ErrorKind};

use crate::{failure, layout::Tables, logs, tuning};

pub(crate) struct Store {
    db: RwLock<Option<DB>>,
    path: PathBuf,
    pub(crate) tables: Tables,
}

impl Store {
    /// `same_boot`: nothing but processes has ended since the store was last open.
    ///
    /// What was acknowledged lies in the log up to some point, and behind it only what a power cut has left of changes that
    /// were not. A bit that flips before that point looks alike, and what follows it must not be dropped. So the log is
    /// first taken as it must be if nothing ever happened. If it is not so, the end of a process explains a last record
    /// that was cut off, and a power cut explains any other end; without either, the store is damaged.
    pub(crate) fn open(path: &Path, tables: Tables, same_boot: bool) -> Result<Self, Status> {
        let kept = logs::keep(path).map_err(|error| Status::io("look at the logs of the store at", path, &error))?;
        let db = match open(path, tables, DBRecoveryMode::AbsoluteConsistency, kept) {
            Err(error) if error.kind() == ErrorKind::Corruption => {
                tracing::warn!(path = %path.display(), %error, same_boot, "the end of the store's log is torn");
                let torn = if same_boot { DBRecoveryMode::TolerateCorruptedTailRecords } else { AFTER_POWER_CUT };
                open(path, tables, torn, false)
            }
            opened => opened,
        };
        let db = db.map_err(|error| failure::status("open", path, &error))?;
        Ok(Self { db: RwLock::new(Some(db)), path: path.to_owned(), tables })
    }

    /// The database, for as long as the guard lives; `None` if it could not be opened again.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Option<DB>> {
        self.db.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to tell while there is none.
    pub(crate) fn closed(path: &Path) -> Status {
        Status::unavailable(format!(
            "the store at {} is closed after an error of its disk; it is tried again",
            path.display()
        ))
    }

    /// Closes and opens it again, once its readers are done.
    pub(crate) fn reopen(&self) -> Result<(), Status> {
        let mut place = self.db.write().unwrap_or_else(PoisonError::into_inner);
        // Two of them cannot be open at once.
        *place = None;
        // The disk has refused some of what was written: that was not acknowledged.
        let opened = open(&self.path, self.tables, AFTER_POWER_CUT, false);
        *place = Some(opened.map_err(|error| failure::status("open", &self.path, &error))?);
        Ok(())
    }
}

/// The log ends before the first record that is not whole.
const AFTER_POWER_CUT: DBRecoveryMode = DBRecoveryMode::PointInTime;

/// `kept`: logs that are whole stay as they are.
fn open(path: &Path, tables: Tables, log: DBRecoveryMode, kept: bool) -> Result<DB, rocksdb::Error> {
    let mut tuned = tuning::options(kept)?;
    tuned.set_wal_recovery_mode(log);
    let families = tables.families().map(|name| ColumnFamilyDescriptor::new(name, tuned.clone()));
    DB::open_cf_descriptors(&tuned, path, families)
}
