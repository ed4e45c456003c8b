//! The store's promises: atomic, ordered, grouped, durable, and poisoned rather than wrong.

use std::sync::atomic::Ordering;

use berth_model::Code;
use futures::future::join_all;

use super::*;
use crate::{Durability, Table};

const ROWS: Table<(String, u64), prost_types::Timestamp> = Table::new("rows");
const OTHER: Table<String, prost_types::Timestamp> = Table::new("other");

fn options() -> Options {
    Options { durability: Durability::Synced, tables: &["rows", "other"], holder: "a test".into() }
}

fn value(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

fn key(name: &str, n: u64) -> (String, u64) {
    (name.to_owned(), n)
}

async fn numbers(db: &Db, prefix: &str, after: Option<u64>, limit: usize) -> Vec<u64> {
    let (prefix, after) = (prefix.to_owned(), after.map(|n| key(prefix, n)));
    db.read(move |view| Ok(ROWS.scan(view, &prefix, after.as_ref(), limit)?.into_iter().map(|row| row.0.1).collect()))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_change_sees_itself_and_a_refused_one_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    db.write(|txn| {
        for n in 0..5 {
            ROWS.put(txn, &key("a", n), &value(1));
        }
        ROWS.put(txn, &key("b", 0), &value(1));
        Ok::<_, Status>(())
    })
    .await
    .unwrap();
    let seen = db
        .write(|txn| {
            ROWS.delete(txn, &key("a", 1));
            ROWS.delete(txn, &key("a", 2));
            ROWS.put(txn, &key("a", 9), &value(2));
            assert!(ROWS.get(txn, &key("a", 1))?.is_none());
            assert!(ROWS.contains(txn, &key("a", 9))?);
            let rows = ROWS.scan(txn, &"a".to_owned(), Some(&key("a", 0)), 3)?;
            Ok::<_, Status>(rows.into_iter().map(|row| row.0.1).collect::<Vec<_>>())
        })
        .await
        .unwrap();
    assert_eq!(seen, [3, 4, 9]);
    let refused = db
        .write(|txn| {
            ROWS.put(txn, &key("a", 100), &value(1));
            Err::<(), _>(Status::not_found("no"))
        })
        .await;
    assert_eq!(refused.unwrap_err().code, Code::NotFound);
    assert_eq!(numbers(&db, "a", None, 10).await, [0, 3, 4, 9]);
    assert_eq!(numbers(&db, "a", Some(3), 1).await, [4]);
}

#[tokio::test]
async fn money_is_neither_made_nor_lost_and_flushes_are_shared() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    for name in ["a", "b"] {
        db.write(move |txn| {
            OTHER.put(txn, &name.to_owned(), &value(1000));
            Ok::<_, Status>(())
        })
        .await
        .unwrap();
    }
    let transfers = (0..400).map(|n| {
        let db = db.clone();
        async move {
            db.write(move |txn| {
                let (from, to) = if n % 3 == 0 { ("a", "b") } else { ("b", "a") };
                for (name, amount) in [(from, -1), (to, 1)] {
                    let balance = OTHER.get(txn, &name.to_owned())?.unwrap_or_default().seconds;
                    OTHER.put(txn, &name.to_owned(), &value(balance + amount));
                }
                Ok::<_, Status>(())
            })
            .await
        }
    });
    assert!(join_all(transfers).await.iter().all(Result::is_ok));
    let total = db
        .read(|view| Ok(OTHER.scan(view, &(), None, 9)?.iter().map(|row| row.1.seconds).collect::<Vec<_>>()))
        .await
        .unwrap();
    assert_eq!(total.iter().sum::<i64>(), 2000);
    let (changes, flushes) =
        (db.counters().changes.load(Ordering::Relaxed), db.counters().flushes.load(Ordering::Relaxed));
    assert!(changes >= 402 && flushes < changes / 2, "{changes} changes took {flushes} flushes");
}

#[tokio::test]
async fn a_panic_is_its_callers_alone() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    let panicked = db
        .write(|txn| {
            ROWS.put(txn, &key("p", 1), &value(1));
            if txn.path.is_absolute() {
                panic!("on purpose");
            }
            Ok::<_, Status>(())
        })
        .await;
    assert_eq!(panicked.unwrap_err().code, Code::Internal);
    assert!(numbers(&db, "p", None, 9).await.is_empty());
    db.write(|txn| {
        ROWS.put(txn, &key("p", 2), &value(1));
        Ok::<_, Status>(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let db = Db::open(dir.path(), options()).unwrap();
        assert_eq!(numbers(&db, "r", None, 99).await.len(), round);
        let n = round as u64;
        let change = move |txn: &mut Txn<'_>| {
            ROWS.put(txn, &key("r", n), &value(1));
            Ok::<_, Status>(())
        };
        if round == 1 { db.write_relaxed(change).await.unwrap() } else { db.write(change).await.unwrap() }
    }
}

#[tokio::test]
async fn what_is_lazy_is_there_after_a_process_and_flushed_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let put = |n| {
        move |txn: &mut Txn<'_>| {
            ROWS.put(txn, &key("z", n), &value(1));
            Ok::<_, Status>(())
        }
    };
    for (n, lazy, flushes) in [(0, true, 0), (1, false, 1)] {
        let db = Db::open(dir.path(), options()).unwrap();
        let counters = Arc::clone(&db.inner.counters);
        if lazy {
            db.write_lazy(put(n)).await.unwrap()
        } else {
            db.write_relaxed(put(n)).await.unwrap()
        }
        drop(db);
        assert_eq!(counters.flushes.load(Ordering::Relaxed), flushes);
    }
    let db = Db::open(dir.path(), options()).unwrap();
    assert_eq!(numbers(&db, "z", None, 9).await, [0, 1]);
}

#[tokio::test]
async fn many_short_openers_lose_nothing_and_leave_few_logs() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..30 {
        let db = Db::open(dir.path(), options()).unwrap();
        db.write_relaxed(move |txn| {
            ROWS.put(txn, &key("a", round), &value(1));
            Ok::<_, Status>(())
        })
        .await
        .unwrap();
        assert_eq!(numbers(&db, "a", None, 100).await, (0..=round).collect::<Vec<_>>());
        drop(db);
        let left = std::fs::read_dir(dir.path()).unwrap();
        let ends = |name: &str, with| name.rsplit('.').next() == Some(with);
        let names: Vec<String> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let count = |with| names.iter().filter(|name| ends(name, with)).count();
        assert!(count("log") <= 10 && count("sst") <= 20, "after {round}: {names:?}");
    }
}
