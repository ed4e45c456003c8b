//! A store in one of its homes, and what the tests do with it.

use std::{io::Read as _, path::Path, sync::Arc, time::Duration};

use berth_api::content::{BlobReader, BlobWriter, Content, ContentClient, Followed};
use berth_bus::{Bus, Serving};
use berth_content::{Config, Service};
use berth_model::{Code, Digest, Status};
use berth_wire::{content as msg, types::Time};
use bytes::Bytes;

/// How long a test waits for what must come.
pub(crate) const SOON: Duration = Duration::from_secs(20);

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Direct,
    Bus,
}

/// A store.
pub(crate) struct Home {
    kind: Kind,
    config: Config,
    dir: tempfile::TempDir,
    pub(crate) content: Arc<dyn Content>,
    serving: Vec<Serving>,
}

async fn attach(kind: Kind, config: Config) -> Result<(Arc<dyn Content>, Vec<Serving>), Status> {
    match kind {
        Kind::Direct => Ok((Service::open(config).await?, vec![])),
        Kind::Bus => {
            let bus = Bus::in_process();
            let serving = berth_content::start(&bus, config).await?;
            Ok((Arc::new(ContentClient::new(bus)), serving))
        }
    }
}

impl Home {
    pub(crate) async fn new(kind: Kind) -> Self {
        Self::with(kind, |_| {}).await
    }

    pub(crate) async fn with(kind: Kind, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path().to_owned(), "a test");
        change(&mut config);
        let (content, serving) = attach(kind, config.clone()).await.unwrap();
        Self { kind, config, dir, content, serving }
    }

    /// Where the store is.
    pub(crate) fn root(&self) -> &Path {
        &self.config.root
    }

    /// The directory made for it; the store's own unless the settings say otherwise.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends the service, changes the disk behind its back, and starts it again.
    pub(crate) async fn restart(&mut self, meanwhile: impl FnOnce(&Path)) {
        self.serving.clear();
        self.content = Arc::new(ContentClient::new(Bus::in_process()));
        let mut meanwhile = Some(meanwhile);
        let (content, serving) = loop {
            // The bus gives the old service up in its own time; a store that is held tells so.
            let probe = Config { root: self.config.root.clone(), ..self.config.clone() };
            match attach(self.kind, probe).await {
                Ok((content, serving)) => match meanwhile.take() {
                    // Closed again at once: now nobody has it.
                    Some(meanwhile) => {
                        drop((content, serving));
                        meanwhile(&self.config.root);
                    }
                    None => break (content, serving),
                },
                Err(status) => assert_eq!(status.code, Code::FailedPrecondition, "{status}"),
            }
        };
        (self.content, self.serving) = (content, serving);
    }

    pub(crate) async fn writer(&self, name: &str, digest: Option<&Digest>, total: u64) -> Result<BlobWriter, Status> {
        BlobWriter::open(Arc::clone(&self.content), name, digest, total).await
    }

    /// A writer that gets the place as soon as it may.
    pub(crate) async fn writer_in_turn(&self, name: &str, digest: Option<&Digest>) -> BlobWriter {
        loop {
            match self.writer(name, digest, 0).await {
                Ok(writer) => return writer,
                Err(status) => assert_eq!(status.code, Code::Unavailable, "{status}"),
            }
        }
    }

    pub(crate) async fn put(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut writer = self.writer(&format!("layer-{digest}"), Some(&digest), bytes.len() as u64).await.unwrap();
        writer.write(Bytes::copy_from_slice(bytes)).await.unwrap();
        writer.commit(bytes.len() as u64, &digest).await.unwrap();
        digest
    }

    pub(crate) fn reader(&self, digest: Digest) -> BlobReader {
        BlobReader::new(Arc::clone(&self.content), tokio::runtime::Handle::current(), digest, || false)
    }

    pub(crate) async fn stat(&self, digest: &Digest) -> Result<msg::StatBlobReply, Status> {
        self.content.stat_blob(msg::StatBlobRequest { digest: digest.to_string() }).await
    }

    pub(crate) async fn ingests(&self) -> Vec<msg::Ingest> {
        self.content.list_ingests(msg::ListIngestsRequest::default()).await.unwrap().ingests
    }

    pub(crate) async fn watch(&self, digest: &Digest, seen: (u64, u64), wait_ms: u32) -> msg::WatchBlobReply {
        let (generation, frontier) = seen;
        let request =
            msg::WatchBlobRequest { digest: digest.to_string(), generation, frontier, wait_ms, ..Default::default() };
        self.content.watch_blob(request).await.unwrap()
    }

    /// Polls until all `written` bytes are hashed.
    pub(crate) async fn hashed(&self, digest: &Digest, written: u64) -> msg::WatchBlobReply {
        let mut seen = (0, 0);
        loop {
            let news = self.watch(digest, seen, 20_000).await;
            if news.frontier == written {
                return news;
            }
            assert_ne!((news.generation, news.frontier), seen, "no news of {written} bytes");
            seen = (news.generation, news.frontier);
        }
    }

    pub(crate) async fn delete(&self, digest: &Digest, seconds: i64) -> Result<u64, Status> {
        let now = Time::now();
        let not_after = Some(Time { seconds: now.seconds + seconds, ..now });
        let request = msg::DeleteBlobRequest { digest: digest.to_string(), not_after };
        Ok(self.content.delete_blob(request).await?.freed)
    }

    /// Directories of ingests on the disk.
    pub(crate) fn ingest_dirs(&self) -> usize {
        std::fs::read_dir(self.root().join("ingest")).unwrap().count()
    }
}

/// Reads to the end on a thread of its own.
pub(crate) async fn read_all(mut reader: BlobReader) -> (std::io::Result<Vec<u8>>, Option<Followed>) {
    let (tell, hear) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let done = reader.read_to_end(&mut bytes).map(|_| bytes);
        drop(tell.send((done, reader.end().cloned())));
    });
    let read = hear.await.unwrap();
    thread.join().unwrap();
    read
}

/// Reads the first bytes, which must be there.
pub(crate) async fn read_some(mut reader: BlobReader, length: usize) -> (BlobReader, Vec<u8>) {
    tokio::task::spawn_blocking(move || {
        let mut first = vec![0; length];
        reader.read_exact(&mut first).unwrap();
        (reader, first)
    })
    .await
    .unwrap()
}

pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 / 7) as u8).collect()
}
