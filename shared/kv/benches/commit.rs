//! What writes to a store cost: `cargo bench -p berth-kv`. Many at once share one flush of the log.

#![allow(missing_docs, reason = "the macros of the harness make public items")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on shall stop")]

use berth_kv::{Db, Durability, Options, Table};
use berth_model::Status;
use divan::{Bencher, counter::ItemsCount};

const ROWS: Table<u64, prost_types::Struct> = Table::new("rows");

fn options(durability: Durability) -> Options {
    Options { durability, tables: &["rows"], holder: "a benchmark".into() }
}

fn main() {
    divan::main();
}

/// What a write waits for; the rows are called so.
trait Promise {
    const DURABILITY: Durability;
}

struct Flushed;

impl Promise for Flushed {
    const DURABILITY: Durability = Durability::Synced;
}

struct NotFlushed;

impl Promise for NotFlushed {
    const DURABILITY: Durability = Durability::None;
}

#[divan::bench(args = [1, 8, 64], types = [Flushed, NotFlushed], sample_count = 20)]
fn writes<P: Promise>(bencher: Bencher, at_once: usize) {
    let (runtime, dir) = (tokio::runtime::Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let db = Db::open(dir.path(), options(P::DURABILITY)).unwrap();
    bencher.counter(ItemsCount::new(at_once)).bench_local(|| {
        let write = |n: usize| {
            db.write(move |txn| {
                ROWS.put(txn, &(n as u64), &prost_types::Struct::default());
                Ok::<_, Status>(())
            })
        };
        let done = runtime.block_on(futures::future::join_all((0..at_once).map(write)));
        assert!(done.iter().all(Result::is_ok));
    });
}

/// Closing is counted, too: a command that works for itself does both.
#[divan::bench(sample_count = 10)]
fn open_and_close(bencher: Bencher) {
    let dir = tempfile::tempdir().unwrap();
    drop(Db::open(dir.path(), options(Durability::Synced)).unwrap());
    bencher.bench_local(|| Db::open(dir.path(), options(Durability::Synced)).unwrap());
}
