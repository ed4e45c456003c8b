//! The RocksDB behind a [`crate::Db`]: open, or closed for a moment while it is opened again after an error of the disk.

use std::{
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use berth_model::Status;
use rocksdb::{ColumnFamilyDescriptor, DB};

use crate::{failure, tuning};

pub(crate) struct Store {
    db: RwLock<Option<DB>>,
    path: PathBuf,
    families: &'static [&'static str],
}

impl Store {
    pub(crate) fn open(path: &Path, families: &'static [&'static str]) -> Result<Self, Status> {
        Ok(Self { db: RwLock::new(Some(open(path, families)?)), path: path.to_owned(), families })
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
        *place = Some(open(&self.path, self.families)?);
        Ok(())
    }
}

fn open(path: &Path, families: &[&'static str]) -> Result<DB, Status> {
    let tuned = tuning::options();
    let families = families.iter().map(|name| ColumnFamilyDescriptor::new(*name, tuned.clone()));
    DB::open_cf_descriptors(&tuned, path, families).map_err(|error| failure::status("open", path, &error))
}
