//! How far behind those are who read events, as one number for each of them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, Once, PoisonError},
};

use crate::metrics::{label, meter};

/// Readers of one home that have a name of their own in numbers; the others are "other", with the lag of the slowest.
const NAMED: usize = 32;

type Lags = BTreeMap<&'static str, Vec<(String, u64)>>;

static LAGS: Mutex<Lags> = Mutex::new(Lags::new());
static SHOWN: Once = Once::new();

/// All readers that there are now at one home of theirs (`nats`, `grpc`): how many events each has not had.
pub fn readers(home: &'static str, lags: impl IntoIterator<Item = (String, u64)>) {
    LAGS.lock().unwrap_or_else(PoisonError::into_inner).insert(home, named(lags));
    SHOWN.call_once(|| {
        meter()
            .u64_observable_gauge("berth.events.consumer.lag")
            .with_unit("{event}")
            .with_description("Events that are published and that a reader of them has not had yet")
            .with_callback(|to| {
                for (home, lags) in &*LAGS.lock().unwrap_or_else(PoisonError::into_inner) {
                    for (name, lag) in lags {
                        to.observe(*lag, &[label("home", *home), label("consumer", name.clone())]);
                    }
                }
            })
            .build();
    });
}

/// Names are bounded, and each is there once: with the lag of the slowest who has it.
fn named(lags: impl IntoIterator<Item = (String, u64)>) -> Vec<(String, u64)> {
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for (name, lag) in lags {
        let name = if found.len() < NAMED || found.contains_key(&name) { name } else { "other".to_owned() };
        let slowest = found.entry(name).or_default();
        *slowest = lag.max(*slowest);
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_the_slowest_counts() {
        let lag = |name: &str, lag: u64| (name.to_owned(), lag);
        assert_eq!(named([lag("a", 3), lag("b", 0), lag("a", 7), lag("a", 5)]), [lag("a", 7), lag("b", 0)]);
        let many = named((0..100).map(|n| (format!("n{n:03}"), n)));
        assert_eq!((many.len(), many.last()), (NAMED + 1, Some(&lag("other", 99))));
    }
}
