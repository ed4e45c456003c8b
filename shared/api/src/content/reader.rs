//! The one way to read a blob, also one that is still arriving: a blocking reader that follows the ingest up to its
//! hashed frontier and ends when the blob was committed.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt as _,
    path::{Component, Path},
    sync::{Arc, mpsc},
};

use berth_model::{Digest, Status};
use berth_wire::{
    content::{self as msg, watch_blob_reply::State},
    types::BlobPlace,
};
use tokio::runtime::Handle;
use tracing::Instrument as _;

use super::{
    Content,
    passing::{Follower, Stage},
    writer::check_same_disk,
};

/// How long one poll of the service waits for news.
pub(super) const POLL_MS: u32 = 1_000;

/// Of what was read, so much may stay in memory.
const SPAN: u64 = 16 << 20;

/// How a [`BlobReader`] ended, beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The bytes read are those of the committed blob.
    Committed,
    /// The ingest began anew or went away: everything read is void; start over.
    Void,
    /// The service or the disk failed.
    Failed(Status),
}

/// Reads a blob from its beginning. Blocking: for a thread of its own, never for the async runtime.
///
/// `read` ends (0 bytes) only when the blob was committed; anything else is an `io::Error`, and [`BlobReader::end`] then
/// says whether to start over.
pub struct BlobReader {
    content: Arc<dyn Content>,
    runtime: Handle,
    digest: Digest,
    file: Option<File>,
    /// Of the file, while it is being written.
    follower: Option<Follower>,
    path: String,
    offset: u64,
    /// Up to here the page cache was told to forget the file.
    forgotten: u64,
    frontier: u64,
    generation: u64,
    /// The file is the committed blob, whatever becomes of its name.
    proved: bool,
    end: Option<Followed>,
    cancelled: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl BlobReader {
    /// A reader of the blob or of the ingest that will become it; it waits for one if there is neither. `cancelled` is
    /// asked at every wait.
    #[must_use]
    pub fn new(
        content: Arc<dyn Content>,
        runtime: Handle,
        digest: Digest,
        cancelled: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            content,
            runtime,
            digest,
            file: None,
            follower: None,
            path: String::new(),
            offset: 0,
            forgotten: 0,
            frontier: 0,
            generation: 0,
            proved: false,
            end: None,
            cancelled: Arc::new(cancelled),
        }
    }

    /// Reads the blob where it is said to be committed, if a file of this length is there; whatever else is the matter, the
    /// service is asked as ever. What somebody else says is believed only of a file with the digest's name.
    #[must_use]
    pub fn at(mut self, place: Option<&BlobPlace>, size: u64) -> Self {
        if let Some(BlobPlace { path, store_id }) = place
            && let Some(file) = placed(Path::new(path), store_id, &self.digest, size)
        {
            self.file = Some(file);
            self.path.clone_from(path);
            self.frontier = size;
            self.proved = true;
        }
        self
    }

    /// How it ended; `None` while it has not.
    #[must_use]
    pub fn end(&self) -> Option<&Followed> {
        self.end.as_ref()
    }

    /// Bytes read so far.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn finish(&mut self, end: Followed) -> io::Error {
        let error = match &end {
            Followed::Void => io::Error::other("the download began anew"),
            Followed::Failed(status) => io::Error::other(status.clone()),
            Followed::Committed => io::Error::other("ended"),
        };
        self.end = Some(end);
        error
    }

    /// Asks, and waits on this thread. Not by blocking on the runtime itself: that one may be on its way down.
    fn ask(&self, request: msg::WatchBlobRequest) -> Result<msg::WatchBlobReply, Status> {
        let (answer, answered) = mpsc::sync_channel(1);
        let content = Arc::clone(&self.content);
        let asking = async move { drop(answer.send(content.watch_blob(request).await)) };
        drop(self.runtime.spawn(asking.in_current_span()));
        answered.recv().unwrap_or_else(|_down| Err(Status::cancelled("the program is ending")))
    }

    /// Waits until there is more to read than `offset`, or the blob is complete.
    fn wait(&mut self) -> io::Result<()> {
        loop {
            if (self.cancelled)() {
                return Err(
                    self.finish(Followed::Failed(Status::cancelled(format!("reading {} was cancelled", self.digest))))
                );
            }
            let request = msg::WatchBlobRequest {
                digest: self.digest.to_string(),
                r#ref: String::new(),
                generation: self.generation,
                frontier: self.frontier,
                wait_ms: POLL_MS,
            };
            let news = match self.ask(request) {
                Ok(news) => news,
                Err(status) => return Err(self.finish(Followed::Failed(status))),
            };
            match news.state() {
                State::Absent if self.file.is_some() => return Err(self.finish(Followed::Void)),
                State::Absent => {}
                State::Committed => {
                    // Committed bytes are the bytes of the last generation, unless that one was never ours to see:
                    // a file that we follow keeps its identity through the rename, so compare the files.
                    if !self.adopt(&news)? {
                        // Deleted just now: what we have open need not be it. The next poll tells.
                        continue;
                    }
                    self.frontier = news.frontier;
                    self.proved = true;
                    return Ok(());
                }
                State::Growing | State::Idle => {
                    if self.generation != 0 && self.generation != news.generation {
                        return Err(self.finish(Followed::Void));
                    }
                    if !self.adopt(&news)? {
                        continue;
                    }
                    self.generation = news.generation;
                    self.frontier = news.frontier;
                    if self.frontier > self.offset {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Tells the writer how far it is.
    fn pass(&self) {
        if let Some(follower) = &self.follower {
            follower.passed(self.offset);
        }
    }

    /// Gives back the memory of what was read: nobody reads the bytes of a layer again soon, and what is unpacked needs it.
    /// Pages that the disk has not got yet stay; so each is tried more than once.
    fn forget(&mut self) {
        if self.offset - self.forgotten < 2 * SPAN {
            return;
        }
        if let Some(file) = &self.file {
            let length = std::num::NonZeroU64::new(self.offset - self.forgotten);
            // Only a hint.
            let _hint = rustix::fs::fadvise(file, self.forgotten, length, rustix::fs::Advice::DontNeed);
        }
        self.forgotten = self.offset - SPAN;
    }

    /// Opens the file a reply names; if another file was being read, that one must be the same inode. `false`: the file has
    /// got another name since the reply, or is gone.
    fn adopt(&mut self, news: &msg::WatchBlobReply) -> io::Result<bool> {
        if self.file.is_some() && self.path == news.path {
            return Ok(true);
        }
        let path = Path::new(&news.path);
        if let Err(status) = check_same_disk(path, &news.store_id) {
            return Err(self.finish(Followed::Failed(status)));
        }
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.file.is_none() {
                    // Nothing seen, so that the next poll answers at once.
                    self.generation = 0;
                    self.frontier = 0;
                }
                return Ok(false);
            }
            Err(error) => {
                let status = Status::io("open blob", path, &error);
                return Err(self.finish(Followed::Failed(status)));
            }
        };
        if let Some(old) = &self.file
            && self.offset > 0
            && !same_inode(old, &file)?
        {
            return Err(self.finish(Followed::Void));
        }
        if self.file.is_none() && news.state() != State::Committed {
            self.follower = Follower::join(&file, Stage::Use, self.offset);
        }
        self.file = Some(file);
        self.path.clone_from(&news.path);
        Ok(true)
    }
}

/// The file of a committed blob, if it is there.
fn placed(path: &Path, store_id: &str, digest: &Digest, size: u64) -> Option<File> {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let named = path.file_name().is_some_and(|name| name == digest.hex().as_str());
    if !plain || !named || check_same_disk(path, store_id).is_err() {
        return None;
    }
    let file = File::open(path).ok()?;
    file.metadata().ok().filter(|facts| facts.is_file() && facts.len() == size).map(|_facts| file)
}

fn same_inode(a: &File, b: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (a, b) = (a.metadata()?, b.metadata()?);
    Ok(a.dev() == b.dev() && a.ino() == b.ino())
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match &self.end {
                Some(Followed::Committed) => return Ok(0),
                Some(_) => return Err(io::Error::other("the blob cannot be read any more")),
                None => {}
            }
            let ready = usize::try_from(self.frontier.saturating_sub(self.offset)).unwrap_or(usize::MAX);
            if let (Some(file), true) = (&self.file, ready > 0) {
                let length = buffer.len().min(ready);
                let Some(part) = buffer.get_mut(..length) else {
                    return Ok(0);
                };
                let in_memory = self.follower.as_ref().and_then(|follower| follower.bytes(self.offset, length));
                if let Some(bytes) = in_memory {
                    let Some(part) = part.get_mut(..bytes.len()) else { return Ok(0) };
                    part.copy_from_slice(&bytes);
                    self.offset += bytes.len() as u64;
                    self.pass();
                    return Ok(bytes.len());
                }
                let read = match file.read_at(part, self.offset) {
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        let status = Status::io("read blob", Path::new(&self.path), &error);
                        return Err(self.finish(Followed::Failed(status)));
                    }
                };
                if read == 0 && length > 0 {
                    return Err(self.finish(Followed::Void));
                }
                self.offset += read as u64;
                self.pass();
                self.forget();
                return Ok(read);
            }
            if self.proved {
                self.end = Some(Followed::Committed);
            } else {
                self.wait()?;
            }
        }
    }
}
