//! The invariants, looked at after an accident: with the store's own commands, and in its files.

use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use berth_testing::{berth::Berth, tree::differences};

use super::{
    catalog::Catalog,
    look::{self, Shown},
    oracle::{NAMESPACES, Oracle},
};
use crate::facts::lines;

/// Looks at everything. Answers what is wrong, and makes what is there the beginning of the next round.
pub(super) fn check(berth: &Berth, catalog: &Catalog, oracle: &mut Oracle) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let files = look::blob_files(berth.root()).unwrap_or_else(|error| {
        wrong.push(format!("{error:#}"));
        BTreeSet::new()
    });
    for namespace in NAMESPACES {
        let shown = look::shown(berth, namespace)?;
        wrong.extend(oracle.broken_promises(catalog, namespace, &shown));
        // A record says that its bytes are there, whole; the files were hashed above.
        for digest in shown.content.iter().filter(|digest| !files.contains(*digest)) {
            wrong.push(format!("{namespace}: {digest} has a record and no bytes"));
        }
        wrong.extend(told(berth, namespace, &shown)?);
        wrong.extend(snapshots(berth, namespace, catalog, &shown)?);
        oracle.settle(catalog, namespace, &shown);
    }
    wrong.extend(half_made(berth)?);
    Ok(wrong)
}

/// Longer than any condemnation: a deletion that was cut off bars its blob from everybody for half a minute.
const CONDEMNED: Duration = Duration::from_secs(40);

/// After a collection there is what the images refer to, and nothing else: no record, no file, no directory.
pub(super) fn check_collected(berth: &Berth, catalog: &Catalog, oracle: &mut Oracle) -> Result<Vec<String>> {
    for namespace in NAMESPACES {
        // Of pulls that died: they would keep what they had for a day.
        let leases = lines(&berth.ok(["-n", namespace, "leases", "ls", "--quiet"])?);
        if !leases.is_empty() {
            berth.ok(["-n", namespace, "leases", "rm"].into_iter().chain(leases.iter().map(String::as_str)))?;
        }
    }
    let begun = Instant::now();
    loop {
        berth.ok(["gc"])?;
        let left = left_over(berth, catalog, oracle)?;
        if left.is_empty() || begun.elapsed() > CONDEMNED {
            return Ok(left);
        }
        thread::sleep(Duration::from_millis(40));
    }
}

/// What no image refers to and is there all the same.
fn left_over(berth: &Berth, catalog: &Catalog, oracle: &mut Oracle) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let (mut recorded, mut snapshots) = (BTreeSet::new(), 0);
    for namespace in NAMESPACES {
        let shown = look::shown(berth, namespace)?;
        let images = || catalog.images.iter().filter(|image| shown.images.contains(&image.reference));
        let content: BTreeSet<&String> = images().flat_map(|image| &image.digests).collect();
        for digest in shown.content.iter().filter(|digest| !content.contains(digest)) {
            wrong.push(format!("{namespace}: {digest} was not collected"));
        }
        let chains: BTreeSet<&String> = images().flat_map(|image| &image.chain).collect();
        for name in shown.snapshots.keys().filter(|name| !chains.contains(name)) {
            wrong.push(format!("{namespace}: snapshot {name} was not collected"));
        }
        snapshots += shown.snapshots.len();
        recorded.extend(shown.content.iter().cloned());
        oracle.settle(catalog, namespace, &shown);
    }
    let files = look::blob_files(berth.root())?;
    wrong
        .extend(files.difference(&recorded).map(|digest| format!("blob {digest} has no record and was not collected")));
    wrong.extend(recorded.difference(&files).map(|digest| format!("blob {digest} was collected and has a record")));
    let directory = berth.root().join("snapshots/overlayfs/snapshots");
    let directories = fs::read_dir(&directory).map_or(0, Iterator::count);
    if directories != snapshots {
        wrong.push(format!("{directories} directories in {}, but {snapshots} snapshots", directory.display()));
    }
    Ok(wrong)
}

/// The events add up to what is there: no change without its event, no event without its change.
fn told(berth: &Berth, namespace: &str, shown: &Shown) -> Result<Vec<String>> {
    let told = match look::told(berth, namespace) {
        Ok(told) => told,
        Err(error) => return Ok(vec![format!("{namespace}: {error:#}")]),
    };
    let mut wrong = Vec::new();
    let mut compare = |what: &str, told: BTreeSet<&String>, shown: BTreeSet<&String>| {
        if told != shown {
            wrong.push(format!("{namespace}: by the events there are the {what} {told:?}, listed are {shown:?}"));
        }
    };
    compare("images", told.images.iter().collect(), shown.images.iter().collect());
    compare("blobs", told.content.iter().collect(), shown.content.iter().collect());
    compare("snapshots", told.snapshots.keys().collect(), shown.snapshots.keys().collect());
    Ok(wrong)
}

/// Every committed snapshot is mounted and shows what it must; none stands on nothing.
fn snapshots(berth: &Berth, namespace: &str, catalog: &Catalog, shown: &Shown) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (name, snapshot) in shown.snapshots.iter().filter(|(_, snapshot)| snapshot.committed) {
        let Some(expected) = catalog.trees.get(name) else {
            wrong.push(format!("{namespace}: snapshot {name} is of no image"));
            continue;
        };
        let stands = snapshot.parent.is_empty() || shown.snapshots.get(&snapshot.parent).is_some_and(|it| it.committed);
        if !stands {
            wrong.push(format!("{namespace}: the parent {} of snapshot {name} is not there", snapshot.parent));
        }
        match look::snapshot(berth, namespace, name) {
            Ok(tree) => wrong.extend(
                differences(expected, &tree).into_iter().map(|line| format!("{namespace}: snapshot {name}: {line}")),
            ),
            Err(error) => wrong.push(format!("{namespace}: snapshot {name}: {error:#}")),
        }
    }
    Ok(wrong)
}

/// A start leaves nothing half made in the content store.
fn half_made(berth: &Berth) -> Result<Vec<String>> {
    let directory = berth.root().join("content/ingest");
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        if !path.join("ref").exists() {
            wrong.push(format!("{} is half made", path.display()));
        }
    }
    Ok(wrong)
}
