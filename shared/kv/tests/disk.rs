//! A killed process loses nothing it was told is written; a full or forbidden disk is named.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use berth_kv::{Db, Durability, Options, Table};
use berth_model::{Code, Status};

const ROWS: Table<u64, prost_types::Struct> = Table::new("rows");
const CHILD: &str = "BERTH_KV_TEST_CHILD";

fn options() -> Options {
    Options { durability: Durability::Synced, tables: &["rows"], holder: "berth serve".into() }
}

fn big(bytes: usize) -> prost_types::Struct {
    let text = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue("x".repeat(bytes))) };
    prost_types::Struct { fields: [("v".to_owned(), text)].into() }
}

/// Not a test by itself: the child of the next one, which writes for ever and tells each number once it is on disk.
#[test]
fn child_that_writes() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let db = Db::open(Path::new(&dir), options()).unwrap();
    for n in 0.. {
        runtime
            .block_on(db.write(move |txn| {
                ROWS.put(txn, &n, &big(100));
                Ok::<_, Status>(())
            }))
            .unwrap();
        println!("\nwrote {n}");
    }
}

#[tokio::test]
async fn a_killed_process_keeps_every_acknowledged_write() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_that_writes", "--exact", "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = 0_u64;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some(n) = line.unwrap().strip_prefix("wrote ") {
            acknowledged = n.parse().unwrap();
        }
        if acknowledged >= 50 {
            break;
        }
    }
    let error = Db::open(dir.path(), options()).unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
    assert!(error.message.contains(&format!("`berth serve` (pid {})", child.id())), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    let db = Db::open(dir.path(), options()).unwrap();
    let rows = db.read(|view| ROWS.scan(view, &(), None, usize::MAX)).await.unwrap();
    let numbers: Vec<u64> = rows.into_iter().map(|row| row.0).collect();
    assert!(numbers.len() as u64 > acknowledged, "{} rows, {acknowledged} acknowledged", numbers.len());
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "a gap");
}

struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(bytes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "berth-test"])
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "mounting a tmpfs needs root");
        Self(dir)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

#[tokio::test]
async fn a_full_disk_is_named_and_the_store_goes_on_when_there_is_room() {
    let disk = Tmpfs::mount(4 << 20);
    let mut acknowledged = 0;
    for room in ["24m", "48m"] {
        let db = Db::open(disk.0.path(), options()).unwrap();
        let error = loop {
            let n = acknowledged;
            let done = db
                .write(move |txn| {
                    ROWS.put(txn, &n, &big(100_000));
                    Ok::<_, Status>(())
                })
                .await;
            match done {
                Ok(()) => acknowledged += 1,
                Err(error) => break error,
            }
            assert!(acknowledged < 2000, "the disk never filled");
        };
        assert_eq!(error.code, Code::ResourceExhausted, "{error}");
        assert!(error.message.contains(&disk.0.path().display().to_string()), "{error}");
        let again = db
            .write(|txn| {
                ROWS.put(txn, &0, &big(1));
                Ok::<_, Status>(())
            })
            .await;
        // A small one may fit by now: opening again drops what was not acknowledged.
        assert!(again.map_or_else(|error| error.code == Code::ResourceExhausted, |()| true));
        let status =
            Command::new("mount").args(["-o", &format!("remount,size={room}")]).arg(disk.0.path()).status().unwrap();
        assert!(status.success());
        let n = acknowledged;
        db.write(move |txn| {
            ROWS.put(txn, &n, &big(100_000));
            Ok::<_, Status>(())
        })
        .await
        .unwrap();
        acknowledged += 1;
        let rows = db.read(|view| ROWS.scan(view, &(), None, usize::MAX)).await.unwrap();
        assert_eq!(rows.len() as u64, acknowledged);
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let error = Db::open(Path::new("/proc/berth-cannot-be"), options()).unwrap_err();
    assert!(error.message.contains("/proc/berth-cannot-be"), "{error}");
}
