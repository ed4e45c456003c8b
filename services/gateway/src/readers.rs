//! Who reads events through this gateway, and where each is: so that a reader that falls behind is seen.

use std::{
    collections::HashMap,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

static NEXT: AtomicU64 = AtomicU64::new(0);
static PLACES: LazyLock<Mutex<HashMap<u64, (&'static str, u64)>>> = LazyLock::new(Mutex::default);

fn places() -> MutexGuard<'static, HashMap<u64, (&'static str, u64)>> {
    PLACES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One reader; it is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Place(u64);

impl Place {
    /// A reader of this kind that has had all events up to `sequence`.
    pub(crate) fn new(kind: &'static str, sequence: u64) -> Self {
        let place = Self(NEXT.fetch_add(1, Ordering::Relaxed));
        places().insert(place.0, (kind, sequence));
        place
    }

    /// It has had the events up to this one.
    pub(crate) fn at(&self, sequence: u64) {
        if let Some((_, at)) = places().get_mut(&self.0) {
            *at = sequence;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        places().remove(&self.0);
    }
}

/// How many of the events up to `newest` each has not had.
pub(crate) fn lags(newest: u64) -> Vec<(String, u64)> {
    places().values().map(|(kind, at)| ((*kind).to_owned(), newest.saturating_sub(*at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_known_while_it_is_there() {
        let lag = || lags(100).into_iter().find(|(kind, _)| kind == "test").map(|(_, lag)| lag);
        let place = Place::new("test", 60);
        assert_eq!(lag(), Some(40));
        place.at(100);
        assert_eq!(lag(), Some(0));
        drop(place);
        assert_eq!(lag(), None);
    }
}
