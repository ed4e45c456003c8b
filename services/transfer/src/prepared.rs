//! Snapshots that were prepared for layers before any of them is unpacked: in one change for all layers of an image, while the
//! disk has nothing else to do. The first job for a layer takes its snapshot, of whichever pull it is; a later one, which may
//! find anything, prepares its own. So does one that began while the snapshot was being prepared, or before: it may have put
//! another in its place. What nobody took is dropped with the end of the pull that prepared it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use berth_wire::metadata::end_pull_request::Unfilled;

use crate::slots::Equals;

/// By the job they are for.
#[derive(Default)]
pub(crate) struct Prepared(Mutex<HashMap<String, ForPull>>);

struct ForPull {
    pull: String,
    /// None while it is being prepared.
    snapshot: Option<Unfilled>,
}

/// Those that one call prepares. What did not come is not expected any more when this is dropped.
pub(crate) struct Expected<'a> {
    prepared: &'a Prepared,
    pull: &'a str,
}

impl Prepared {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, ForPull>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Snapshots are going to be prepared for these jobs; `under_way` are jobs that have begun.
    pub(crate) fn expect<'a>(
        &'a self,
        pull: &'a str,
        jobs: impl Iterator<Item = String>,
        under_way: &Equals,
    ) -> Expected<'a> {
        let mut all = self.lock();
        for job in jobs {
            // One that another pull prepares, or has, is that one's.
            if under_way.present(&job).is_none() {
                all.entry(job).or_insert_with(|| ForPull { pull: pull.to_owned(), snapshot: None });
            }
        }
        Expected { prepared: self, pull }
    }

    /// The id of the snapshot for a job that begins now; 0 if it has none.
    pub(crate) fn take(&self, job: &str) -> u64 {
        self.lock().remove(job).and_then(|taken| taken.snapshot).map_or(0, |snapshot| snapshot.id)
    }

    /// What nobody took of a pull that ends.
    pub(crate) fn left_by(&self, pull: &str) -> Vec<Unfilled> {
        self.lock().extract_if(|_, of| of.pull == pull).filter_map(|(_, of)| of.snapshot).collect()
    }
}

impl Expected<'_> {
    /// The snapshot for a job was prepared.
    pub(crate) fn came(&self, job: &str, snapshot: Unfilled) {
        if let Some(expected) = self.prepared.lock().get_mut(job)
            && expected.pull == self.pull
        {
            expected.snapshot = Some(snapshot);
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.prepared.lock().retain(|_, of| of.pull != self.pull || of.snapshot.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(id: u64) -> Unfilled {
        Unfilled { snapshotter: "overlay".into(), key: format!("extract-{id}"), id }
    }

    fn prepare(prepared: &Prepared, pull: &str, jobs: &[(&str, u64)]) {
        let expected = prepared.expect(pull, jobs.iter().map(|(job, _)| (*job).to_owned()), &Equals::default());
        for (job, id) in jobs {
            expected.came(job, snapshot(*id));
        }
    }

    #[test]
    fn each_is_taken_once_and_what_is_left_is_of_its_pull() {
        let prepared = Prepared::default();
        prepare(&prepared, "one", &[("a", 1), ("b", 2)]);
        prepare(&prepared, "two", &[("c", 3)]);
        assert_eq!([prepared.take("a"), prepared.take("a"), prepared.take("nothing")], [1, 0, 0]);
        assert_eq!(prepared.left_by("one"), [snapshot(2)]);
        assert_eq!(prepared.take("b"), 0, "it is dropped with its pull");
        assert_eq!(prepared.take("c"), 3);
        assert!(prepared.left_by("two").is_empty());
    }

    /// Whatever may have put another snapshot in the place of the one that is prepared leaves it without a taker.
    #[test]
    fn what_others_may_have_replaced_is_not_used() {
        let (prepared, under_way) = (Prepared::default(), Equals::default());
        let leading = under_way.begin("before").ok().unwrap();
        let jobs = ["before", "between", "of another", "good", "did not come"];
        prepare(&prepared, "other", &[("of another", 9)]);
        let expected = prepared.expect("one", jobs.into_iter().map(str::to_owned), &under_way);
        drop(leading);
        assert_eq!(prepared.take("between"), 0, "it begins before the answer is here");
        for (job, id) in [("before", 1), ("between", 2), ("of another", 3), ("good", 4)] {
            expected.came(job, snapshot(id));
        }
        drop(expected);
        assert_eq!(jobs.map(|job| prepared.take(job)), [0, 0, 9, 4, 0]);
        assert!(prepared.lock().is_empty());
    }
}
