//! The one way to write a blob: by a ticket, at the end of an ingest, with signs of life.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use berth_model::{Digest, Status};
use berth_wire::{content as msg, job::SMALL_LAYER as SMALL, types::BlobPlace};
use bytes::Bytes;

use super::{
    Content,
    gathered::{Gathered, Past, Way},
    passing::PIECE,
    turns::{Turn, Turns},
};

/// Tell the service how far we are after so many bytes, or after [`REPORT_EVERY`]: often enough that a follower is
/// never far behind, seldom enough that calls cost nothing beside the bytes. A blob of at most [`SMALL`] bytes only has to
/// give signs of life while it arrives: nobody begins with a part of it.
const REPORT_BYTES: u64 = 1 << 20;
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// Write to the file in pieces of at least this size; smaller ones are gathered.
const WRITE_BYTES: usize = 512 << 10;
/// Who waits, for a turn to write or for bytes, tells the service so often that it is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// A writer of one ingest. The service hashes behind it; [`BlobWriter::commit`] is refused unless the bytes are right.
///
/// Dropping it leaves the bytes for a resume; [`BlobWriter::release`] does so at once instead of after a silence.
pub struct BlobWriter {
    content: Arc<dyn Content>,
    reference: String,
    session: String,
    path: PathBuf,
    file: Arc<File>,
    /// On disk.
    written: u64,
    /// Told to the service.
    reported: u64,
    reported_at: Instant,
    /// The service learns at the commit how far we are.
    commit_advances: bool,
    pending: Gathered,
    /// Being written, on a thread of its own, while more is gathered.
    under_way: Option<UnderWay>,
    /// Whose turn it is to write, and how many bytes there will be.
    turns: Option<(Turns, u64)>,
    /// The way past the page cache.
    past: Past,
    /// Time in which nothing was written because those who read were too far behind.
    held_up: Duration,
}

struct UnderWay {
    length: u64,
    work: crate::Blocking<()>,
}

impl BlobWriter {
    /// Begins or resumes the ingest `reference`. Codes as [`Content::open_ingest`]. `total` 0: not known.
    pub async fn open(
        content: Arc<dyn Content>,
        reference: &str,
        expected: Option<&Digest>,
        total: u64,
    ) -> Result<Self, Status> {
        let request = msg::OpenIngestRequest {
            r#ref: reference.to_owned(),
            expected: expected.map(ToString::to_string).unwrap_or_default(),
            total,
        };
        let asked = Instant::now();
        let ticket = content.open_ingest(request).await?;
        let path = PathBuf::from(&ticket.path);
        let file = open(path.clone(), Some(ticket.store_id)).await?;
        let mut writer = Self {
            content,
            reference: reference.to_owned(),
            session: ticket.session,
            path,
            file: Arc::new(file),
            written: ticket.offset,
            reported: ticket.offset,
            reported_at: Instant::now(),
            commit_advances: ticket.commit_advances,
            pending: Gathered::default(),
            under_way: None,
            turns: None,
            past: Past::No,
            held_up: Duration::ZERO,
        };
        // A place that was given to another writer before the lock was there is not ours to write to.
        if asked.elapsed() >= Duration::from_millis(ticket.yours_for_ms) / 2 {
            writer.report().await?;
        }
        Ok(writer)
    }

    /// Writes only when it is its turn, as one of several that fetch at once; of so many bytes in all. What was gathered is
    /// written while more arrives: whoever calls this calls [`BlobWriter::flush`] when nothing arrives for a while.
    #[must_use]
    pub fn in_turns(self, turns: &Turns, total: u64) -> Self {
        Self { turns: Some((turns.clone(), total)), past: Past::of(total), ..self }
    }

    /// Where the next byte goes, in bytes from the start of the blob.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.written + self.under_way.as_ref().map_or(0, |part| part.length) + self.pending.len() as u64
    }

    /// Appends bytes. ABORTED: another writer took over.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Status> {
        self.pending.push(bytes);
        // The end of it is told by the commit that follows; of a small one that is nearly all.
        let (is_whole, every) = match &self.turns {
            Some((_, total)) => (self.offset() >= *total, if *total <= SMALL { SIGN_OF_LIFE } else { REPORT_EVERY }),
            None => (false, REPORT_EVERY),
        };
        let soon = !is_whole && self.reported_at.elapsed() >= every;
        let enough = if self.past.is_taken() { PIECE } else { WRITE_BYTES };
        if self.turns.is_some() && !soon && self.pending.len() >= enough {
            self.begin().await?;
            self.report_if_due().await
        } else if soon || self.pending.len() >= enough {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Writes out what was gathered and tells the service. Also the sign of life while nothing arrives: call it then.
    pub async fn flush(&mut self) -> Result<(), Status> {
        self.write_out().await?;
        self.report_if_due().await
    }

    async fn report_if_due(&mut self) -> Result<(), Status> {
        if self.written - self.reported >= REPORT_BYTES || self.reported_at.elapsed() >= REPORT_EVERY {
            self.report().await?;
        }
        Ok(())
    }

    async fn write_out(&mut self) -> Result<(), Status> {
        while self.pending.len() > 0 {
            self.begin().await?;
        }
        self.arrive().await
    }

    /// For how long it was held up by those who read, since it was last asked.
    pub fn held_up(&mut self) -> Duration {
        std::mem::take(&mut self.held_up)
    }

    /// Waits for what is being written.
    async fn arrive(&mut self) -> Result<(), Status> {
        if let Some(part) = &mut self.under_way {
            let done = part.work.end().await;
            let length = self.under_way.take().map_or(0, |part| part.length);
            if let Err(status) = done {
                // What was gathered behind it would come to its place.
                self.pending.clear();
                return Err(status);
            }
            self.written += length;
        }
        Ok(())
    }

    /// Begins to write what was gathered, when all before it is written; past the page cache only whole blocks.
    async fn begin(&mut self) -> Result<(), Status> {
        self.arrive().await?;
        if self.pending.len() == 0 {
            return Ok(());
        }
        let since = Instant::now();
        let ready = self.pending.is_ready();
        let way = if ready { None } else { self.way().await? };
        self.held_up += since.elapsed();
        let past = ready || way.is_some();
        let turn = if past { None } else { self.turn().await? };
        let part = self.pending.part(self.written, way);
        let (at, length) = (self.written, part.length());
        if past && let Some(way) = self.past.next(at + length) {
            self.pending.prepare(way);
        }
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        let work = crate::Blocking::begin(move || {
            let _turn = turn;
            part.write(&file, at).map_err(|error| Status::io("write", &path, &error))
        });
        self.under_way = Some(UnderWay { length, work });
        Ok(())
    }

    /// The way past the page cache, for what was gathered.
    async fn way(&mut self) -> Result<Option<Way>, Status> {
        loop {
            let way = self.past.way(&self.file, self.pending.len()).await?;
            if way.is_some() || !self.past.is_later() {
                return Ok(way);
            }
            self.report_if_due().await?;
        }
    }

    async fn turn(&mut self) -> Result<Option<Turn>, Status> {
        let Some((turns, total)) = self.turns.clone() else { return Ok(None) };
        let mut taken = std::pin::pin!(turns.take(total.saturating_sub(self.written)));
        loop {
            match tokio::time::timeout(SIGN_OF_LIFE, taken.as_mut()).await {
                Ok(turn) => return Ok(Some(turn)),
                Err(_still_waiting) => self.report().await?,
            }
        }
    }

    /// The digest of all bytes so far; waits until they are hashed.
    pub async fn digest(&mut self) -> Result<Digest, Status> {
        self.write_out().await?;
        let request = msg::HashIngestRequest {
            r#ref: self.reference.clone(),
            session: self.session.clone(),
            written: self.written,
        };
        let reply = self.content.hash_ingest(request).await?;
        self.reported = self.written;
        self.reported_at = Instant::now();
        berth_wire::convert::digest(&reply.digest)
    }

    /// Writes everything out and has the service know of it, unless it does and has heard of us lately.
    pub async fn catch_up(&mut self) -> Result<(), Status> {
        self.write_out().await?;
        let known = self.reported == self.written && self.reported_at.elapsed() < SIGN_OF_LIFE;
        if known { Ok(()) } else { self.report().await }
    }

    async fn report(&mut self) -> Result<(), Status> {
        self.content
            .advance_ingest(msg::AdvanceIngestRequest {
                r#ref: self.reference.clone(),
                session: self.session.clone(),
                written: self.written,
            })
            .await?;
        self.reported = self.written;
        self.reported_at = Instant::now();
        Ok(())
    }

    /// Throws all bytes away and begins again at 0; followers learn that what they read is void.
    pub async fn restart(&mut self) -> Result<(), Status> {
        // What is still being written goes to the old file; whether it gets there does not matter.
        let _void = self.arrive().await;
        self.pending.clear();
        self.content
            .restart_ingest(msg::RestartIngestRequest { r#ref: self.reference.clone(), session: self.session.clone() })
            .await?;
        // A new generation is a new file: readers of the old one never see the two mixed.
        self.past = self.turns.as_ref().map_or(Past::No, |(_, total)| Past::of(*total));
        self.file = Arc::new(open(self.path.clone(), None).await?);
        self.written = 0;
        self.reported = 0;
        self.report().await
    }

    /// Makes it a blob: verified and durable when this returns. FAILED_PRECONDITION: size or digest are wrong, and the
    /// ingest is still ours (restart or release it). ALREADY_EXISTS counts as success here: the blob is there. Answers where
    /// the blob is, if the service said it.
    pub async fn commit(&mut self, size: u64, expected: &Digest) -> Result<Option<BlobPlace>, Status> {
        let settled = if self.commit_advances { self.write_out().await } else { self.catch_up().await };
        match settled {
            // Perhaps because the blob is there, by us or by somebody else: the commit will say so.
            Err(status) if status.code == berth_model::Code::Aborted => {}
            done => done?,
        }
        let request = msg::CommitIngestRequest {
            r#ref: self.reference.clone(),
            session: self.session.clone(),
            size,
            expected: expected.to_string(),
            written: if self.commit_advances { self.written } else { 0 },
        };
        match self.content.commit_ingest(request).await {
            Ok(committed) => {
                self.past.keep();
                Ok(committed.place)
            }
            Err(status) if status.code == berth_model::Code::AlreadyExists => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Gives the place up and leaves the bytes for a resume.
    pub async fn release(mut self) -> Result<(), Status> {
        self.catch_up().await?;
        self.content
            .release_ingest(msg::ReleaseIngestRequest { r#ref: self.reference.clone(), session: self.session.clone() })
            .await?;
        Ok(())
    }
}

/// Opens the data file for writing, with the shared lock that tells the service, for as long as it is open, that somebody may
/// write there. Whoever had to wait for it then asks the service whether the place is still theirs: if it was given to
/// another writer before the lock was there, that one was not told of us.
async fn open(path: PathBuf, store_id: Option<String>) -> Result<File, Status> {
    crate::blocking(move || {
        if let Some(store_id) = store_id {
            check_same_disk(&path, &store_id)?;
        }
        let file = File::options().write(true).open(&path).map_err(|error| Status::io("open ingest", &path, &error))?;
        // Where there are no locks, the service takes every file for held.
        match file.lock_shared() {
            Err(error) if error.kind() != std::io::ErrorKind::Unsupported => {
                Err(Status::io("lock ingest", &path, &error))
            }
            _ => Ok(file),
        }
    })
    .await
}

/// The name of the file in a store's root that holds its random id.
pub const STORE_ID_FILE: &str = "store-id";

/// Refuses a ticket of a store that is on another disk than the one this process sees at that path.
pub(crate) fn check_same_disk(path: &Path, store_id: &str) -> Result<(), Status> {
    let seen = path.ancestors().skip(1).take(5).find_map(|dir| std::fs::read_to_string(dir.join(STORE_ID_FILE)).ok());
    if seen.as_deref().map(str::trim) == Some(store_id) {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "{} is not the content service's disk as seen from here; services that move bytes must share the volume of --root",
        path.display()
    )))
}
