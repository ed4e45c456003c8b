//! Snapshots that were prepared for layers before any of them is unpacked: in one change for all layers of an image, while the
//! disk has nothing else to do. The first job for a layer takes its snapshot, of whichever pull it is; a later one, which may
//! find anything, prepares its own. What nobody took is dropped with the end of the pull that prepared it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use berth_wire::metadata::end_pull_request::Unfilled;

/// By the job they are for.
#[derive(Default)]
pub(crate) struct Prepared(Mutex<HashMap<String, ForPull>>);

struct ForPull {
    pull: String,
    snapshot: Unfilled,
}

impl Prepared {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, ForPull>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, job: String, pull: &str, snapshot: Unfilled) {
        self.lock().insert(job, ForPull { pull: pull.to_owned(), snapshot });
    }

    /// The id of the snapshot for a job that begins now; 0 if it has none.
    pub(crate) fn take(&self, job: &str) -> u64 {
        self.lock().remove(job).map_or(0, |taken| taken.snapshot.id)
    }

    /// What nobody took of a pull that ends.
    pub(crate) fn left_by(&self, pull: &str) -> Vec<Unfilled> {
        self.lock().extract_if(|_, of| of.pull == pull).map(|(_, of)| of.snapshot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once_and_what_is_left_is_of_its_pull() {
        let prepared = Prepared::default();
        let snapshot = |id| Unfilled { snapshotter: "overlay".into(), key: format!("extract-{id}"), id };
        for (job, pull, id) in [("a", "one", 1), ("b", "one", 2), ("c", "two", 3)] {
            prepared.put(job.into(), pull, snapshot(id));
        }
        assert_eq!([prepared.take("a"), prepared.take("a"), prepared.take("nothing")], [1, 0, 0]);
        assert_eq!(prepared.left_by("one"), [snapshot(2)]);
        assert_eq!(prepared.take("b"), 0, "it is dropped with its pull");
        assert_eq!(prepared.take("c"), 3);
        assert!(prepared.left_by("two").is_empty());
    }
}
