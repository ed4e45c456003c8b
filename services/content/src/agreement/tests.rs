//! A start lists the blobs unless nothing can have changed; that it did not list shows by a table that was tampered with
//! and stays so.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use berth_api::content::Content;
use berth_kv::{Durability, Options, Table, Txn};
use berth_model::Digest;
use berth_wire::content as msg;

use super::*;
use crate::{Config, Service, tables::TABLES};

/// Without what keeps it and `listed` together.
const BLOBS: Table<Digest, msg::StatBlobReply> = Table::new("blobs");

/// A store that nobody has open.
struct Closed {
    dir: tempfile::TempDir,
}

impl Closed {
    /// With so many blobs, recorded; they have long been there, and what the last start saw of that is noted.
    async fn settled(blobs: usize) -> Self {
        let closed = Self { dir: tempfile::tempdir().unwrap() };
        closed.start().await;
        for n in 0..blobs {
            let bytes = n.to_string();
            fs::write(closed.file(&Digest::of(bytes.as_bytes())), bytes).unwrap();
        }
        assert_eq!(closed.settle().await, blobs);
        closed
    }

    /// Lets the directory be old, and what a start sees of it be noted. Answers how many blobs there are.
    async fn settle(&self) -> usize {
        self.set_modified(SystemTime::now() - OLD_ENOUGH);
        let blobs = self.start().await.len();
        assert_eq!(self.noted().await.is_some(), blobs >= FEW);
        blobs
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        Layout::new(self.root()).blob(digest)
    }

    fn set_modified(&self, time: SystemTime) {
        File::open(Layout::new(self.root()).blobs()).unwrap().set_modified(time).unwrap();
    }

    fn modified(&self) -> SystemTime {
        fs::metadata(Layout::new(self.root()).blobs()).unwrap().modified().unwrap()
    }

    async fn open(&self) -> Arc<dyn Content> {
        let durability = Durability::None;
        let config = Config { durability, ..Config::new(self.root().to_owned(), "a test") };
        Service::open(config).await.unwrap()
    }

    /// Opens it, asks for its blobs and closes it.
    async fn start(&self) -> BTreeSet<String> {
        let content = self.open().await;
        let listed = content.list_blobs(msg::ListBlobsRequest { limit: 4096, ..Default::default() }).await.unwrap();
        assert!(!listed.more);
        listed.blobs.into_iter().map(|blob| blob.digest).collect()
    }

    /// Changes the tables alone.
    async fn tamper<R: Send + 'static>(&self, change: impl FnOnce(&mut Txn<'_>) -> R + Send + 'static) -> R {
        let options = Options { durability: Durability::None, tables: TABLES, holder: "a test".into() };
        let db = Db::open(&self.root().join("db"), options).unwrap();
        db.write(move |txn| Ok::<_, Status>(change(txn))).await.unwrap()
    }

    /// Whether a start lists. Leaves what the start before noted as it was, if this one does not.
    async fn lists(&self) -> bool {
        let digest = Digest::of(b"0");
        let record = self
            .tamper(move |txn| {
                let record = BLOBS.get(txn, &digest).unwrap().unwrap();
                BLOBS.delete(txn, &digest);
                record
            })
            .await;
        let listed = self.start().await.contains(&digest.to_string());
        self.tamper(move |txn| BLOBS.put(txn, &digest, &record)).await;
        listed
    }

    async fn noted(&self) -> Option<Listed> {
        self.tamper(|txn| listed::get(txn).unwrap()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_after_which_nothing_changed_is_not_followed_by_a_listing() {
    let closed = Closed::settled(FEW).await;
    assert!(!closed.lists().await);
    assert!(!closed.lists().await, "nor is the next one");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_come_and_go_by_hand_are_seen() {
    let closed = Closed::settled(FEW).await;
    let (came, went) = (Digest::of(b"came"), Digest::of(b"1"));
    fs::write(closed.file(&came), b"came").unwrap();
    let blobs = closed.start().await;
    assert!(blobs.len() == FEW + 1 && blobs.contains(&came.to_string()));
    closed.settle().await;
    // As a deletion that is killed before its record goes.
    fs::remove_file(closed.file(&went)).unwrap();
    let blobs = closed.start().await;
    assert!(blobs.len() == FEW && !blobs.contains(&went.to_string()));
    closed.settle().await;
    // As tar and rsync put back an older state of the directory.
    let before = closed.modified();
    fs::write(closed.file(&went), b"1").unwrap();
    closed.set_modified(before);
    assert!(closed.start().await.contains(&went.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_directory_is_listed() {
    let closed = Closed::settled(FEW).await;
    let (blobs, aside) = (Layout::new(closed.root()).blobs(), closed.root().join("aside"));
    let before = closed.modified();
    fs::rename(&blobs, &aside).unwrap();
    fs::create_dir(&blobs).unwrap();
    closed.set_modified(before);
    assert_eq!(closed.start().await, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_takes_the_note_with_its_record() {
    let closed = Closed::settled(FEW).await;
    let content = closed.open().await;
    let request = msg::DeleteBlobRequest {
        digest: Digest::of(b"1").to_string(),
        not_after: Some((SystemTime::now() + Duration::from_secs(3600)).into()),
    };
    content.delete_blob(request).await.unwrap();
    drop(content);
    // Whatever becomes of the file and the times: a power cut may bring them back.
    assert_eq!(closed.noted().await, None);
    assert!(closed.lists().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_the_next_change_may_have_too_are_not_trusted() {
    let closed = Closed::settled(FEW).await;
    // A minute ahead, so that it is not old before the test ends.
    closed.set_modified(SystemTime::now() + Duration::from_secs(60));
    for _ in 0..2 {
        assert!(closed.lists().await);
        assert_eq!(closed.noted().await, None);
    }
    closed.settle().await;
    assert!(!closed.lists().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_of_another_start_of_the_machine_counts_for_nothing() {
    let closed = Closed::settled(FEW).await;
    let mut noted = closed.noted().await.unwrap();
    noted.boot = "an earlier one".to_owned();
    closed.tamper(move |txn| listed::put(txn, &noted)).await;
    assert!(closed.lists().await);
    assert!(!closed.lists().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_few_blobs_nothing_is_noted() {
    let closed = Closed::settled(FEW - 1).await;
    assert_eq!(closed.noted().await, None);
    assert!(closed.lists().await);
}

#[test]
fn how_old_is_old_enough() {
    let (modified, tick) = (UNIX_EPOCH + Duration::from_secs(1_000_000), Duration::from_nanos(1));
    for (now, expected) in [
        (modified + OLD_ENOUGH, true),
        (modified + OLD_ENOUGH - tick, false),
        (modified + tick, false),
        (modified, false),
        (modified - tick, false),
        (modified - OLD_ENOUGH, false),
    ] {
        assert_eq!(is_old_enough(modified, now), expected, "{now:?}");
    }
}
