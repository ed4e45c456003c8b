//! What a start need not do again: while the directory of blobs is what it was when the table was last made to agree with it,
//! neither of them is read.
//!
//! - A name that comes or goes changes the directory's times (POSIX: `rename`, `unlink`), in the same transaction of a file
//!   system that has such. Everywhere in this service the file comes or goes first, and its record after it: when a commit,
//!   a deletion, a repair or a start is killed between the two, the times tell.
//! - A power cut may take back some changes of files and not others, of the files or of the table (without durability
//!   most of all). So what was noted counts in the same start of the machine only. Where a disk is lost without the
//!   machine, the batch that changed a record has taken the note away ([`tables::blobs`](crate::tables::blobs)).
//! - On a file system that breaks POSIX here, what was done to its end has taken the note away too. What a kill cut off stays until
//!   the next listing: a file without a record is fetched again and found there, a record without a file counts as missing.
//! - The times are compared for being equal, not for their order: a clock that goes back makes others.
//! - Who puts an old directory back in place may set `mtime` (tar, rsync), but not `ctime`; one put in another place is another
//!   inode. An old table put back has what was noted of an old directory.
//! - A program that does not know the note leaves it as it is. It changes files first too, and lists at each start.
//! - The clock of a file system is coarse: a tick, with some a second or two. What changes within it after a listing leaves the
//!   times as they were, so they are noted only when `mtime` is older than that; as git does with its index.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    time::{Duration, SystemTime},
};

use berth_kv::{Db, View};
use berth_model::Status;
use berth_wire::types::Time;

use crate::{
    store::Layout,
    tables::listed::{self, Listed},
};

/// A directory that did not change for so long has times that the next change will not have. FAT counts in steps of 2 s.
const OLD_ENOUGH: Duration = Duration::from_secs(3);
/// Fewer blobs are listed in less than a millisecond: of them nothing is noted.
pub(crate) const FEW: usize = 256;

/// The directory of blobs, looked at before anything is read.
#[derive(Debug)]
pub(crate) struct Looked {
    directory: Listed,
    old_enough: bool,
}

impl Looked {
    /// Looks at it.
    pub(crate) fn at(layout: &Layout, boot: &str) -> Result<Self, Status> {
        let path = layout.blobs();
        // First the clock: what comes after this look is younger than `now`.
        let now = SystemTime::now();
        let failed = |error| Status::io("look at", &path, &error);
        let facts = fs::metadata(&path).map_err(failed)?;
        let time = |seconds, nanos| Some(Time { seconds, nanos: u32::try_from(nanos).unwrap_or(0) });
        Ok(Self {
            directory: Listed {
                boot: boot.to_owned(),
                device: facts.dev(),
                inode: facts.ino(),
                modified: time(facts.mtime(), facts.mtime_nsec()),
                changed: time(facts.ctime(), facts.ctime_nsec()),
            },
            old_enough: is_old_enough(facts.modified().map_err(failed)?, now),
        })
    }

    /// Whether the table agrees with it, without reading either.
    pub(crate) fn is_as_listed(&self, view: &View<'_>) -> bool {
        let noted = listed::get(view).unwrap_or_else(|status| {
            tracing::warn!(%status, "what the last listing noted cannot be read; listing again");
            None
        });
        !self.directory.boot.is_empty() && noted.as_ref() == Some(&self.directory)
    }

    /// Notes that the table agrees with what this was, if that can be told and is worth it.
    pub(crate) async fn note(self, db: &Db, blobs: usize) {
        let Self { directory, old_enough } = self;
        if !old_enough || directory.boot.is_empty() || blobs < FEW {
            return;
        }
        // In order after the records, and of use in this start of the machine only: no flush is worth it.
        let noted = db.write_lazy(move |txn| {
            listed::put(txn, &directory);
            Ok::<_, Status>(())
        });
        if let Err(status) = noted.await {
            tracing::debug!(%status, "the next start lists the blobs again");
        }
    }
}

fn is_old_enough(modified: SystemTime, now: SystemTime) -> bool {
    // In the future: the clock went back, and may come to the same time once more.
    now.duration_since(modified).is_ok_and(|age| age >= OLD_ENOUGH)
}

#[cfg(test)]
mod tests;
