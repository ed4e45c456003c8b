//! Whoever is killed while a store is made leaves none, or one that the next opener goes on with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use berth_kv::{Db, Durability, Options, Table};
use berth_model::Status;

const ROWS: Table<u64, prost_types::Timestamp> = Table::new("rows");
const CHILD: &str = "BERTH_KV_TEST_MAKES";

fn options() -> Options {
    Options { durability: Durability::Synced, tables: &["rows", "more", "and more"], holder: "berth serve".into() }
}

/// Not a test by itself: the child of the next one, which makes a store when it is told to.
#[test]
fn child_that_makes() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    println!("\nready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let db = Db::open(Path::new(&dir), options()).unwrap();
    println!("\nmade");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    drop(db);
}

fn child(dir: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_that_makes", "--exact", "--nocapture"])
        .env(CHILD, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    hear(&mut said, "ready");
    (child, said)
}

fn hear(said: &mut BufReader<std::process::ChildStdout>, word: &str) {
    let mut line = String::new();
    while line.trim() != word {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the child ended before it said {word}");
    }
}

async fn works(dir: &Path, case: &str) {
    for round in 0..2 {
        let db = Db::open(dir, options()).unwrap_or_else(|error| panic!("{case}: {error}"));
        let rows = db.read(|view| ROWS.scan(view, &(), None, 9)).await.unwrap();
        assert_eq!(rows.len(), round, "{case}");
        db.write(|txn| {
            ROWS.put(txn, &7, &prost_types::Timestamp::default());
            Ok::<_, Status>(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_process_killed_at_any_moment_of_it() {
    let told = |child: &mut Child| {
        child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        Instant::now()
    };
    let scratch = tempfile::tempdir().unwrap();
    let (mut whole, mut said) = child(&scratch.path().join("whole"));
    let since = told(&mut whole);
    hear(&mut said, "made");
    let takes = since.elapsed();
    told(&mut whole);
    whole.wait().unwrap();
    let steps = 24;
    let mut half_made = 0;
    for step in 0..steps {
        let dir = scratch.path().join(step.to_string());
        let (mut child, _said) = child(&dir);
        let kill_at = told(&mut child) + takes * step / steps;
        while Instant::now() < kill_at {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let exists = |name| dir.join(name).exists();
        half_made += usize::from(exists("HOLDER") && !list(&dir).iter().any(|name| name.starts_with("OPTIONS")));
        works(&dir, &format!("killed after step {step} of {steps}, {takes:?}")).await;
    }
    assert!(half_made > 0, "no store was caught half made");
}

/// What a power cut may leave: files in the order of their flushes up to some point, the one under way empty or cut off.
#[tokio::test]
async fn a_power_cut_at_any_flush_of_it() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = scratch.path().join("whole");
    drop(Db::open(&whole, options()).unwrap());
    let mut files: Vec<PathBuf> = list(&whole).into_iter().map(PathBuf::from).collect();
    let rank = |name: &Path| {
        let name = name.to_string_lossy();
        ["HOLDER", "FORMAT", "LOCK", "MANIFEST", "CURRENT"]
            .iter()
            .position(|first| name.starts_with(first))
            .unwrap_or(9)
    };
    files.sort_by_key(|name| rank(name));
    for kept in 0..files.len() {
        // CURRENT is renamed into its place when it is whole, and whole is what it names.
        let cuts: &[u64] = if files[kept].to_string_lossy().starts_with("CURRENT") { &[] } else { &[0, 5] };
        for cut in cuts {
            let dir = scratch.path().join(format!("{kept}-{cut}"));
            fs::create_dir(&dir).unwrap();
            for name in &files[..=kept] {
                fs::copy(whole.join(name), dir.join(name)).unwrap();
            }
            let last = dir.join(&files[kept]);
            let length = fs::metadata(&last).unwrap().len();
            if length > *cut {
                fs::File::options().write(true).open(&last).unwrap().set_len(*cut).unwrap();
            }
            works(&dir, &format!("{} of {files:?} with {cut} bytes", kept + 1)).await;
        }
    }
}

fn list(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
