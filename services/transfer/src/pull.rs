//! One pull, from reference to image record.
//!
//! Order is what makes it safe: the lease stands before the first byte; a snapshot is committed after its blob and its
//! diff id are proved and after the snapshot below; content records come after the snapshots they name, and the image
//! record last. A pull that stops anywhere in between leaves only what the next one uses or a collection takes.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use berth_api::{
    content::{self, Content},
    fetcher::Fetcher,
    metadata::Metadata,
    unpacker::Unpacker,
};
use berth_bus::Bus;
use berth_failpoint::{Point, pass};
use berth_model::{Descriptor, Digest, Index, Kind, Manifest, Status, labels};
use berth_wire::{
    fetcher::{FetchJob, ResolveReply},
    transfer::pull_state::{Phase, item::Stage},
    unpacker::CheckHostRequest,
};

use crate::{
    ahead::{self, Ahead},
    board::Board,
    landing::Landing,
    layer::{self, Coming},
    ledger::What,
    plan,
    records::{self, ContentRecords, Lease},
    wish::Wish,
    work::Work,
};

pub(crate) struct Pull {
    pub(crate) id: String,
    pub(crate) wish: Wish,
    pub(crate) board: Arc<Board>,
    pub(crate) bus: Bus,
    pub(crate) content: Arc<dyn Content>,
    pub(crate) metadata: Arc<dyn Metadata>,
    pub(crate) fetcher: Arc<dyn Fetcher>,
    pub(crate) unpacker: Arc<dyn Unpacker>,
    pub(crate) work: Arc<Work>,
    /// Its share of all turns; it may change while it runs.
    pub(crate) weight: Arc<AtomicU32>,
    /// What the registry was asked already.
    pub(crate) ahead: Mutex<Option<Ahead>>,
}

impl Pull {
    /// Runs it to its end, under a lease that stands. When it is dropped, its jobs are cancelled.
    pub(crate) async fn run(&self, lease: &Lease) -> Result<Vec<Digest>, Status> {
        pass(Point::TransferLeased);
        let ledger = &self.board.ledger;
        // What the registry says is of no use where nothing can be unpacked; but both take their time.
        let check = async {
            if self.wish.unpack {
                let check = self.unpacker.check_host(CheckHostRequest { snapshotter: self.wish.snapshotter.clone() });
                ledger.step(None, What::Check, check).await?;
            }
            Ok(())
        };
        let ((), reply) = tokio::try_join!(check, ledger.step(None, What::Resolve, self.resolve()))?;
        self.under(lease, reply).await
    }

    /// Asks the registry what the reference names, if it was not asked before.
    async fn resolve(&self) -> Result<ResolveReply, Status> {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take();
        match ahead {
            Some(ahead) => ahead.answer().await,
            None => self.fetcher.resolve(ahead::request(&self.wish)).await,
        }
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    async fn under(&self, lease: &Lease, reply: ResolveReply) -> Result<Vec<Digest>, Status> {
        let target = Descriptor::try_from(berth_wire::convert::required(reply.target.as_ref(), "target")?)?;
        self.board.target(&target);
        self.board.phase(Phase::Pulling);

        let mut records = ContentRecords::default();
        let mut landing = Landing::default();
        let images = self.documents(lease, &target, &mut records, &mut landing).await?;
        let mut chain_ids = Vec::new();
        for image in &images {
            landing.beside(self.protect(lease, image)).await?;
            let brought = self.image(lease, image, image.descriptor == target, &mut records);
            chain_ids.extend(landing.beside(brought).await?);
        }
        landing.all().await?;
        self.board.phase(Phase::Recording);
        let Wish { namespace, reference, labels, .. } = &self.wish;
        pass(Point::TransferRecording);
        let written = records.write(&self.metadata, namespace, reference, &lease.id);
        self.board.ledger.step(None, What::Record, written).await?;
        pass(Point::TransferRecorded);
        let named = records::put_image(&self.metadata, namespace, reference, &target, labels, &lease.id);
        self.board.ledger.step(None, What::Record, named).await?;
        pass(Point::TransferNamed);
        Ok(chain_ids)
    }

    /// Fetches the target and, if it is an index, the manifests for the platforms.
    async fn documents<'a>(
        &'a self,
        lease: &Lease,
        target: &Descriptor,
        records: &mut ContentRecords,
        landing: &mut Landing<'a>,
    ) -> Result<Vec<plan::Image>, Status> {
        let bytes = self.document(lease, target, landing).await?;
        match Kind::of_document(target.digest, &target.media_type, &bytes).map_err(plan::refuse)? {
            Kind::Index => {
                let index = Index::parse(target.digest, &bytes).map_err(plan::refuse)?;
                let chosen = plan::choose(&index, &self.wish.platforms)?;
                // All of them, by their places, as containerd does: another pull may choose others, and must not take these
                // references away.
                let digests: Vec<Digest> = index.manifests.iter().map(|entry| entry.digest).collect();
                records.add(target, labels::of_index(&digests));
                let mut images = Vec::with_capacity(chosen.len());
                for descriptor in chosen {
                    let bytes = self.document(lease, &descriptor, landing).await?;
                    if Kind::of_document(descriptor.digest, &descriptor.media_type, &bytes).map_err(plan::refuse)?
                        != Kind::Manifest
                    {
                        return Err(Status::invalid_argument(format!(
                            "index {} names {} for a platform, but that is an index again; Berth follows one level",
                            target.digest, descriptor.digest
                        )));
                    }
                    let manifest = Manifest::parse(descriptor.digest, &bytes).map_err(plan::refuse)?;
                    images.push(plan::Image { descriptor, manifest });
                }
                Ok(images)
            }
            _ => {
                let manifest = Manifest::parse(target.digest, &bytes).map_err(plan::refuse)?;
                Ok(vec![plan::Image { descriptor: target.clone(), manifest }])
            }
        }
    }

    /// Fetches one document and reads it, for which its bytes need not be on disk yet.
    async fn document<'a>(
        &'a self,
        lease: &Lease,
        descriptor: &Descriptor,
        landing: &mut Landing<'a>,
    ) -> Result<Vec<u8>, Status> {
        landing.beside(lease.protect(std::slice::from_ref(descriptor))).await?;
        self.board.add(descriptor);
        let coming = Arc::new(Coming::new());
        let (wanted, arrives) = (descriptor.clone(), Arc::clone(&coming));
        landing.add(Box::pin(async move { layer::fetch(self, &wanted, &arrives, Stage::Done).await.map(drop) }));
        landing.beside(self.read(descriptor, &coming)).await
    }

    /// The bytes of a document that is on its way.
    pub(crate) async fn read(&self, descriptor: &Descriptor, coming: &Coming) -> Result<Vec<u8>, Status> {
        if let Some(bytes) = content::read_arriving_document(&self.content, descriptor).await? {
            return Ok(bytes);
        }
        coming.is_complete().await;
        content::read_document(&self.content, descriptor).await
    }

    pub(crate) fn fetch_job(&self, descriptor: &Descriptor) -> FetchJob {
        FetchJob {
            pull_id: self.id.clone(),
            reference: self.wish.reference.to_string(),
            descriptor: Some(descriptor.into()),
            plain_http: self.wish.access.plain_http,
        }
    }

    /// Puts the blobs of an image under the lease, and on the board.
    async fn protect(&self, lease: &Lease, image: &plan::Image) -> Result<(), Status> {
        let mut blobs = vec![image.manifest.config.clone()];
        blobs.extend(image.manifest.layers.iter().cloned());
        lease.protect(&blobs).await?;
        for blob in &blobs {
            self.board.add(blob);
        }
        Ok(())
    }
}
