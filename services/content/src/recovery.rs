//! Tests: whatever step of the disk is the last one done, and whether or not the power goes with it, the store opens again,
//! holds no wrong blob and every blob that was told of, and goes on.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use berth_api::content::{BlobWriter, Content};
use berth_kv::Durability;
use berth_model::{Code, Digest, Status};
use berth_testing::wait::{Seen, wait_for};
use berth_wire::content as msg;
use bytes::Bytes;

use crate::{
    Config, Service,
    store::{Disk, Host},
};

/// A disk that fails for good after so many steps, and forgets at a power cut what was not flushed.
struct Frail {
    host: Host,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Steps left to do; `None`: all.
    left: Option<usize>,
    /// Fails at these steps only.
    refuses: Option<&'static str>,
    log: Vec<String>,
    flushed: BTreeSet<PathBuf>,
    /// Names given in the blobs' directory since it was flushed.
    unsure: Vec<(PathBuf, PathBuf)>,
}

impl Frail {
    fn new(left: Option<usize>) -> Arc<Self> {
        let memory = Mutex::new(Memory { left, ..Memory::default() });
        // What is flushed is noted here; that takes no time.
        Arc::new(Self { host: Host::new(Durability::None), memory })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    fn step(&self, name: &str, path: &Path) -> io::Result<MutexGuard<'_, Memory>> {
        let mut memory = self.memory();
        let step = format!("{name} {}", path.file_name().unwrap().to_string_lossy());
        let refused = memory.refuses.is_some_and(|refused| step == refused);
        match &mut memory.left {
            Some(0) => return Err(io::Error::from_raw_os_error(5)),
            Some(left) => *left -= 1,
            None => {}
        }
        if refused {
            return Err(io::Error::from_raw_os_error(5));
        }
        memory.log.push(step);
        Ok(memory)
    }

    /// The power goes: a name that was not flushed may as well never have been given.
    fn cut_power(&self) {
        for (from, to) in self.memory().unsure.drain(..).rev() {
            if fs::rename(&to, &from).is_err() {
                fs::remove_file(&to).unwrap();
            }
        }
    }
}

impl Disk for Frail {
    fn make_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        let _step = self.step("make", path)?;
        self.host.make_dir(path, mode)
    }
    fn create(&self, path: &Path) -> io::Result<()> {
        let _step = self.step("create", path)?;
        self.host.create(path)
    }
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let _step = self.step("write", path)?;
        self.host.write(path, text)
    }
    fn copy(&self, from: &Path, to: &Path, length: u64) -> io::Result<()> {
        let _step = self.step("copy", to)?;
        self.host.copy(from, to, length)
    }
    fn flush(&self, path: &Path) -> io::Result<()> {
        self.step("flush", path)?.flushed.insert(path.to_owned());
        self.host.flush(path)
    }
    fn flush_dir(&self, path: &Path) -> io::Result<()> {
        self.step("flush", path)?.unsure.retain(|(_, to)| to.parent() != Some(path));
        self.host.flush_dir(path)
    }
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        let _step = self.step("mode", path)?;
        self.host.set_mode(path, mode)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut memory = self.step("rename", from)?;
        if to.parent().unwrap().ends_with("blobs/sha256") {
            assert!(memory.flushed.contains(from), "{} got a blob's name before it was flushed", from.display());
            memory.unsure.push((from.to_owned(), to.to_owned()));
        }
        self.host.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let _step = self.step("remove", path)?;
        self.host.remove_file(path)
    }
    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        let _step = self.step("remove", path)?;
        self.host.remove_tree(path)
    }
}

fn config(root: &Path) -> Config {
    Config { writer_silence: Duration::ZERO, durability: Durability::None, ..Config::new(root.to_owned(), "a test") }
}

const RIGHT: &[u8] = b"the bytes of a layer";

async fn write(content: &Arc<dyn Content>, name: &str, bytes: &'static [u8], total: u64) -> Result<BlobWriter, Status> {
    let mut writer = BlobWriter::open(Arc::clone(content), name, Some(&Digest::of(RIGHT)), total).await?;
    let offset = usize::try_from(writer.offset()).unwrap();
    writer.write(Bytes::from_static(&bytes[offset..])).await?;
    writer.flush().await?;
    Ok(writer)
}

/// The life of some ingests, with a wrong start, a taken place and a lost race. Answers the blobs that were told of.
async fn live(content: &Arc<dyn Content>, told: &Mutex<BTreeSet<Digest>>) -> Result<(), Status> {
    let (digest, size) = (Digest::of(RIGHT), RIGHT.len() as u64);
    let mut wrong = write(content, "layer-a", b"other bytes than that", 0).await?;
    assert!(wrong.commit(0, &digest).await.is_err());
    wrong.restart().await?;
    drop(wrong);
    let _lost = write(content, "layer-a", &RIGHT[..5], size).await?;
    let mut first = write(content, "layer-a", RIGHT, size).await?;
    let mut second = write(content, "layer-b", RIGHT, size).await?;
    write(content, "layer-c", RIGHT, size).await?.release().await?;
    content.abort_ingest(msg::AbortIngestRequest { r#ref: "layer-c".into(), ..Default::default() }).await?;
    for writer in [&mut first, &mut second] {
        writer.commit(size, &digest).await?;
        told.lock().unwrap().insert(digest);
    }
    Ok(())
}

/// Opens the store again and checks that it is sound, and holds what was told of.
async fn reopen_and_check(root: &Path, told: &BTreeSet<Digest>, when: &str) {
    let runtime = tokio::runtime::Handle::current();
    let content: Arc<dyn Content> = tokio::task::block_in_place(|| {
        wait_for("the store", Duration::from_secs(10), || match runtime.block_on(Service::open(config(root))) {
            Ok(service) => Seen::Yes(service),
            // What the old service still had to do ends in its own time.
            Err(status) => Seen::NotYet(status),
        })
    });
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(root.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let digest = Digest::of(&fs::read(&path).unwrap());
        assert_eq!(path.file_name().unwrap().to_string_lossy(), digest.hex(), "{when}: a wrong blob");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444, "{when}");
        files.insert(digest.to_string());
    }
    let listed = content.list_blobs(msg::ListBlobsRequest::default()).await.unwrap().blobs;
    assert_eq!(listed.iter().map(|blob| blob.digest.clone()).collect::<BTreeSet<_>>(), files, "{when}");
    for digest in told {
        assert!(files.contains(&digest.to_string()), "{when}: a blob that was told of is gone");
    }
    let ingests = content.list_ingests(msg::ListIngestsRequest::default()).await.unwrap().ingests;
    let dirs = fs::read_dir(root.join("ingest")).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert_eq!(dirs.len(), ingests.len(), "{when}: {dirs:?}, {ingests:?}");
    assert!(dirs.iter().all(|dir| !dir.join("data.new").exists()), "{when}");
    // And it goes on.
    live_on(&content).await.unwrap_or_else(|status| panic!("{when}: {status}"));
    assert_eq!(content.list_blobs(msg::ListBlobsRequest::default()).await.unwrap().blobs.len(), 1, "{when}");
}

async fn live_on(content: &Arc<dyn Content>) -> Result<(), Status> {
    let (digest, size) = (Digest::of(RIGHT), RIGHT.len() as u64);
    for name in ["layer-a", "layer-b", "layer-c"] {
        let done = async {
            let mut writer = write(content, name, RIGHT, size).await?;
            if writer.commit(size, &digest).await.is_err() {
                // Bytes that a wrong start left behind.
                writer.restart().await?;
                writer.write(Bytes::from_static(RIGHT)).await?;
                writer.commit(size, &digest).await?;
            }
            Ok(())
        };
        match done.await {
            Err(Status { code: Code::AlreadyExists, .. }) | Ok(()) => {}
            Err(status) => return Err(status),
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_between_any_two_steps() {
    for (steps, cut) in (0..).flat_map(|steps| [(steps, false), (steps, true)]) {
        let dir = tempfile::tempdir().unwrap();
        let (disk, told) = (Frail::new(Some(steps)), Mutex::default());
        let done = match Service::open_on(config(dir.path()), Arc::clone(&disk) as Arc<dyn Disk>).await {
            Ok(service) => live(&(service as Arc<dyn Content>), &told).await,
            Err(status) => Err(status),
        };
        if cut {
            disk.cut_power();
        }
        let when = format!("after {steps} steps, power cut: {cut} ({:?})", disk.memory().log.last());
        reopen_and_check(dir.path(), &told.into_inner().unwrap(), &when).await;
        if done.is_ok() && cut {
            assert!(steps > 40, "only {steps} steps?");
            return;
        }
    }
}

/// Also in a store where a start that finds nothing changed does not list the blobs.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_stops_between_any_two_steps() {
    let mut deleted = false;
    for steps in 0.. {
        let dir = tempfile::tempdir().unwrap();
        drop(Service::open(config(dir.path())).await.unwrap());
        let blobs = dir.path().join("blobs/sha256");
        let digests: Vec<_> = (0..crate::agreement::FEW).map(|n| Digest::of(n.to_string().as_bytes())).collect();
        for (n, digest) in digests.iter().enumerate() {
            fs::write(blobs.join(digest.hex()), n.to_string()).unwrap();
        }
        fs::File::open(&blobs).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let service = Service::open(config(dir.path())).await.unwrap();
        let noted = service.state().db.read(|view| crate::tables::listed::get(view)).await.unwrap();
        assert!(noted.is_some(), "without a change the next start lists nothing");
        drop(service);

        let disk = Frail::new(Some(steps));
        if let Ok(service) = Service::open_on(config(dir.path()), Arc::clone(&disk) as Arc<dyn Disk>).await {
            // Killed when its file is gone, and its record is not.
            let freed = service.state().store.delete_blob(&digests[7], || Ok(()));
            deleted = freed.is_ok();
        }
        let content = Service::open(config(dir.path())).await.unwrap();
        let asked = msg::ListBlobsRequest { limit: 4096, ..Default::default() };
        let told: BTreeSet<_> = content.list_blobs(asked).await.unwrap().blobs.into_iter().map(|b| b.digest).collect();
        let there = |digest: &&Digest| blobs.join(digest.hex()).exists();
        let files: BTreeSet<_> = digests.iter().filter(there).map(ToString::to_string).collect();
        assert_eq!(told, files, "after {steps} steps");
        assert_eq!(files.len(), digests.len() - usize::from(deleted));
        if deleted {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Frail::new(None);
    let content: Arc<dyn Content> =
        Service::open_on(config(dir.path()), Arc::clone(&disk) as Arc<dyn Disk>).await.unwrap();
    let mut writer = write(&content, "layer-a", RIGHT, 0).await.unwrap();
    disk.memory().log.clear();
    writer.commit(0, &Digest::of(RIGHT)).await.unwrap();
    let ingest = Digest::of(b"layer-a").hex();
    let expected =
        ["flush data", "mode data", "rename data", "flush sha256", "remove ref", &format!("remove {ingest}")];
    assert_eq!(disk.memory().log, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_not_told_of_before_its_name_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Frail::new(None);
    let service = Service::open_on(config(dir.path()), Arc::clone(&disk) as Arc<dyn Disk>).await.unwrap();
    let content: Arc<dyn Content> = service;
    let (digest, size) = (Digest::of(RIGHT), RIGHT.len() as u64);
    let asked = msg::StatBlobRequest { digest: digest.to_string() };
    let mut first = write(&content, "layer-a", RIGHT, size).await.unwrap();
    disk.memory().refuses = Some("flush sha256");
    assert_eq!(first.commit(size, &digest).await.unwrap_err().code, Code::Internal);
    assert_eq!(content.stat_blob(asked.clone()).await.unwrap_err().code, Code::NotFound);
    // The next one finds the file there, and makes sure of its name before it says so.
    let mut second = write(&content, "layer-a", RIGHT, size).await.unwrap();
    disk.memory().refuses = None;
    second.commit(size, &digest).await.unwrap();
    content.stat_blob(asked).await.unwrap();
    drop((first, second, content));
    disk.cut_power();
    reopen_and_check(dir.path(), &[digest].into(), "after the second commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_the_disk_refused_are_not_asked_for_twice() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Frail::new(None);
    let content: Arc<dyn Content> =
        Service::open_on(config(dir.path()), Arc::clone(&disk) as Arc<dyn Disk>).await.unwrap();
    let (digest, size) = (Digest::of(RIGHT), RIGHT.len() as u64);
    let mut writer = write(&content, "layer-a", RIGHT, size).await.unwrap();
    disk.memory().refuses = Some("flush data");
    assert_eq!(writer.commit(size, &digest).await.unwrap_err().code, Code::Internal);
    // The kernel says so once; a second flush of the same bytes would succeed.
    disk.memory().refuses = None;
    let error = writer.commit(size, &digest).await.unwrap_err();
    assert!(error.message.contains("begin anew"), "{error}");
    writer.release().await.unwrap();
    let writer = BlobWriter::open(Arc::clone(&content), "layer-a", Some(&digest), size).await.unwrap();
    assert_eq!(writer.offset(), 0);
}
