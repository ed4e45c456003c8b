//! What collections and repairs did, and what takes the disk, as numbers.

use std::sync::{LazyLock, Mutex, PoisonError};

use berth_telemetry::metrics::{counter, label, meter};
use berth_wire::{
    gc::{MeasureDiskReply, Summary},
    types::Measure,
};
use opentelemetry::metrics::Counter;

static RUNS: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("berth.gc.runs", "{run}", "Collections and checks that ended, by what and how"));
static REMOVED: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("berth.gc.removed", "{record}", "Records that collections removed, by kind"));
static FREED: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("berth.gc.freed", "By", "What collections gave back of the disk, by kind"));
static DAMAGED: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("berth.check.damaged", "{object}", "What checks found damaged"));
static MENDED: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("berth.check.mended", "{object}", "What checks mended"));

/// As measured last.
static DISK: Mutex<Option<MeasureDiskReply>> = Mutex::new(None);

/// A collection that was not only asked what it would do.
pub(crate) fn collected(summary: &Summary, ended_well: bool) {
    RUNS.add(1, &[label("run", "collect"), label("result", result(ended_well))]);
    let removed = [
        ("image", summary.images),
        ("content", summary.contents),
        ("snapshot", summary.snapshots),
        ("lease", summary.leases),
    ];
    for (kind, count) in removed {
        REMOVED.add(count, &[label("kind", kind)]);
    }
    let freed = [("blobs", &summary.blobs), ("snapshots", &summary.directories), ("ingests", &summary.ingests)];
    for (kind, measure) in freed {
        FREED.add(measure.as_ref().map_or(0, |measure| measure.size), &[label("kind", kind)]);
    }
}

pub(crate) fn checked(summary: &Summary, ended_well: bool) {
    RUNS.add(1, &[label("run", "check"), label("result", result(ended_well))]);
    DAMAGED.add(summary.damaged, &[]);
    MENDED.add(summary.mended, &[]);
}

fn result(well: bool) -> &'static str {
    if well { "done" } else { "failed" }
}

/// Somebody measured.
pub(crate) fn measured(disk: &MeasureDiskReply) {
    *DISK.lock().unwrap_or_else(PoisonError::into_inner) = Some(*disk);
}

/// Shows what takes the disk; the kinds add up to what the directories take.
pub(crate) fn observe() {
    let gauge = |name: &'static str, unit: &'static str, what: &'static str, read: fn(&Measure) -> u64| {
        meter()
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(what)
            .with_callback(move |to| {
                let disk = *DISK.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(disk) = disk else { return };
                let kinds = [
                    ("blobs", disk.blobs),
                    ("ingests", disk.ingests),
                    ("snapshots", disk.snapshots),
                    ("other", disk.other),
                ];
                for (kind, measure) in kinds {
                    to.observe(measure.as_ref().map_or(0, read), &[label("kind", kind)]);
                }
            })
            .build();
    };
    gauge(
        "berth.disk.used",
        "By",
        "What takes the disk, as `berth system df` says, measured after collections",
        |measure| measure.disk,
    );
    gauge("berth.disk.objects", "{object}", "How many there are of what takes the disk", |measure| measure.count);
}
