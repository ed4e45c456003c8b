//! Numbers of a store: how long its commits take, and how RocksDB is.

use std::{
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use berth_telemetry::metrics::{durations, label, meter, seconds};
use opentelemetry::metrics::Histogram;

use crate::store::Store;

/// A property of RocksDB, as it calls it and as we do.
const PROPERTIES: [(&str, &str, &str, &str); 5] = [
    ("rocksdb.total-sst-files-size", "berth.store.files", "By", "What the sorted files of a store take"),
    (
        "rocksdb.cur-size-all-mem-tables",
        "berth.store.memory",
        "By",
        "What a store keeps in memory until it is written out",
    ),
    ("rocksdb.background-errors", "berth.store.errors", "{error}", "Errors of a store's work in the background"),
    ("rocksdb.is-write-stopped", "berth.store.stopped", "", "1 while a store takes no writes, as it cannot keep up"),
    ("rocksdb.num-running-compactions", "berth.store.compactions", "{compaction}", "Compactions that run now"),
];

/// Of one store.
pub(crate) struct Numbers {
    commits: Histogram<f64>,
    name: String,
}

impl Numbers {
    pub(crate) fn new(path: &Path) -> Self {
        let commits =
            durations("berth.store.commit.duration", "How long a change takes to be on disk, from when its turn came");
        Self { commits, name: name(path) }
    }

    /// A group of changes is on disk.
    pub(crate) fn committed(&self, took: Duration) {
        self.commits.record(seconds(took), &[label("store", self.name.clone())]);
    }
}

/// What a store is called: its directory, or the one above if that says less.
fn name(path: &Path) -> String {
    let word = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match word(path) {
        name if matches!(name.as_str(), "db" | "rocksdb" | "index" | "records") => {
            path.parent().map(word).unwrap_or(name)
        }
        name => name,
    }
}

/// Shows how RocksDB is, for as long as the store is there.
pub(crate) fn observe(store: &Arc<Store>, path: &Path) {
    let name = name(path);
    for (property, shown, unit, what) in PROPERTIES {
        let (store, name) = (Arc::downgrade(store), name.clone());
        let look = move |store: &Weak<Store>| {
            let store = store.upgrade()?;
            let db = store.read();
            db.as_ref()?.property_int_value(property).ok()?
        };
        meter()
            .u64_observable_gauge(shown)
            .with_unit(unit)
            .with_description(what)
            .with_callback(move |to| {
                if let Some(value) = look(&store) {
                    to.observe(value, &[label("store", name.clone())]);
                }
            })
            .build();
    }
}
