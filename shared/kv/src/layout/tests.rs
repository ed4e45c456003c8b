//! Both layouts hold the same; a store keeps the one it was made with.

use berth_model::{Code, Status};

use crate::{Db, Durability, Options, Table};

const A: Table<String, prost_types::Timestamp> = Table::new("a");
const AB: Table<String, prost_types::Timestamp> = Table::new("ab");
const B: Table<String, prost_types::Timestamp> = Table::new("b");
const UNKNOWN: Table<String, prost_types::Timestamp> = Table::new("c");

fn options() -> Options {
    Options { durability: Durability::Synced, tables: &["a", "ab", "b"], holder: "a test".into() }
}

fn value(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

async fn all(db: &Db, table: &'static Table<String, prost_types::Timestamp>) -> Vec<(String, i64)> {
    db.read(|view| Ok(table.scan(view, &(), None, 99)?.into_iter().map(|row| (row.0, row.1.seconds)).collect()))
        .await
        .unwrap()
}

fn rows(rows: &[(&str, i64)]) -> Vec<(String, i64)> {
    rows.iter().map(|(key, n)| ((*key).to_owned(), *n)).collect()
}

/// Tables whose names begin alike, with rows at their very ends.
async fn fill(db: &Db) {
    db.write(|txn| {
        for (table, n) in [(&A, 1), (&AB, 2), (&B, 3)] {
            for key in ["", "b", "b\u{0}", "\u{10ffff}"] {
                table.put(txn, &key.to_owned(), &value(n));
            }
        }
        Ok::<_, Status>(())
    })
    .await
    .unwrap();
}

async fn holds_its_tables_apart(format: Option<&str>) {
    let dir = tempfile::tempdir().unwrap();
    if let Some(format) = format {
        std::fs::write(dir.path().join("FORMAT"), format).unwrap();
    }
    let db = Db::open(dir.path(), options()).unwrap();
    fill(&db).await;
    let seen = db
        .write(|txn| {
            A.delete(txn, &"b".to_owned());
            A.put(txn, &"c".to_owned(), &value(4));
            assert!(AB.contains(txn, &"b".to_owned())? && !A.contains(txn, &"b".to_owned())?);
            Ok::<_, Status>(
                A.scan(txn, &(), Some(&"b".to_owned()), 99)?.into_iter().map(|row| row.0).collect::<Vec<_>>(),
            )
        })
        .await
        .unwrap();
    assert_eq!(seen, ["b\u{0}", "c", "\u{10ffff}"]);
    let unknown = db.read(|view| UNKNOWN.get(view, &String::new())).await.unwrap_err();
    assert!(unknown.code == Code::Internal && unknown.message.contains("table c"), "{unknown}");
    drop(db);
    let db = Db::open(dir.path(), options()).unwrap();
    assert_eq!(all(&db, &A).await, rows(&[("", 1), ("b\u{0}", 1), ("c", 4), ("\u{10ffff}", 1)]));
    assert_eq!(all(&db, &AB).await.len() + all(&db, &B).await.len(), 8);
}

#[tokio::test]
async fn together() {
    holds_its_tables_apart(None).await;
}

#[tokio::test]
async fn in_families() {
    holds_its_tables_apart(Some("berth-kv 1\n")).await;
}

/// A store of an older version, also one whose FORMAT a power cut has emptied, is never taken for a new one.
#[tokio::test]
async fn an_old_store_stays_one() {
    let dir = tempfile::tempdir().unwrap();
    let format = dir.path().join("FORMAT");
    std::fs::write(&format, "berth-kv 1\n").unwrap();
    fill(&Db::open(dir.path(), options()).unwrap()).await;
    std::fs::write(&format, "").unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    assert_eq!(all(&db, &B).await.len(), 4);
    assert_eq!(std::fs::read_to_string(&format).unwrap(), "berth-kv 1\n");
}

/// What came later lies where a program that does not know it passes it by.
#[tokio::test]
async fn an_older_program_opens_a_store_with_a_younger_table() {
    const LISTED: Table<String, prost_types::Timestamp> = Table::new("listed");
    for format in [None, Some("berth-kv 1\n")] {
        let dir = tempfile::tempdir().unwrap();
        if let Some(format) = format {
            std::fs::write(dir.path().join("FORMAT"), format).unwrap();
        }
        fill(&Db::open(dir.path(), options()).unwrap()).await;
        let younger = || Options { tables: &["a", "ab", "b", "listed"], ..options() };
        for n in 1..3 {
            let db = Db::open(dir.path(), younger()).unwrap();
            assert_eq!(all(&db, &LISTED).await.len(), n - 1);
            let put = move |txn: &mut crate::Txn<'_>| {
                LISTED.put(txn, &n.to_string(), &value(5));
                Ok::<_, Status>(())
            };
            db.write(put).await.unwrap();
            drop(db);
            let db = Db::open(dir.path(), options()).unwrap();
            assert_eq!(all(&db, &A).await.len() + all(&db, &B).await.len(), 8);
        }
    }
}

/// Older versions made families one after the other, and could be killed between two; what is missing is made.
#[tokio::test]
async fn a_half_made_store_of_an_older_version_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("FORMAT"), "berth-kv 1\n").unwrap();
    drop(Db::open(dir.path(), Options { tables: &["a"], ..options() }).unwrap());
    let db = Db::open(dir.path(), options()).unwrap();
    fill(&db).await;
    assert_eq!(all(&db, &AB).await.len(), 4);
}
