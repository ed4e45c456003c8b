//! One image of a pull: its config and layers are fetched at once, layers are unpacked while they arrive, and their
//! snapshots are committed from the bottom up.

use std::{collections::HashSet, sync::Arc};

use berth_model::{Code, Config, Descriptor, Digest, Status, labels};
use berth_wire::{
    Job as _,
    metadata::end_pull_request::Unfilled,
    transfer::pull_state::item::Stage,
    unpacker::{CommitLayersRequest, LayerCommit, RemoveTreeRequest, UnpackJob},
};
use futures::{TryStreamExt as _, stream::FuturesUnordered};
use tokio::sync::{mpsc, watch};

use crate::{
    layer::{self, Coming},
    ledger::What,
    plan,
    pull::Pull,
    records::{ContentRecords, Lease},
    stack::Stack,
};

/// So many snapshots are prepared by one call: a message stays far from the largest that a bus carries.
const BATCH: usize = 250;

/// The planned layers, once the config that names their diff ids was read.
type Planned = watch::Sender<Option<Arc<Layers>>>;

/// What the config says of the layers.
#[derive(Default)]
struct Layers {
    stack: Vec<plan::Layer>,
    /// The chain ids of those that are unpacked already.
    there: HashSet<String>,
}

impl Pull {
    /// Brings one image in and answers its top chain id, `None` if nothing was to be unpacked. `sole`: no index chose it.
    pub(crate) async fn image(
        &self,
        lease: &Lease,
        image: &plan::Image,
        sole: bool,
        records: &mut ContentRecords,
    ) -> Result<Option<Digest>, Status> {
        if self.wish.unpack {
            plan::check_unpackable(image)?;
        }
        let planned = Planned::new(None);
        // The config's job is submitted first: no layer is unpacked before it is read, and of a hundred small blobs that are
        // asked for at once the last is there long after the first.
        let ((), unpacked) =
            tokio::try_join!(self.config(lease, image, sole, &planned), self.layers(lease, image, &planned))?;

        let planned = planned.borrow().clone().unwrap_or_default();
        let stack = &planned.stack;
        let top = stack.last().map(|layer| layer.chain_id);
        let config = &image.manifest.config;
        for (digest, labels) in
            plan::document_labels(image, top.as_ref().map(|top| (self.wish.snapshotter.as_str(), top)))
        {
            let descriptor = if digest == config.digest { config } else { &image.descriptor };
            records.add(descriptor, labels);
        }
        for layer in &image.manifest.layers {
            records.add(layer, labels::Labels::new());
        }
        for layer in stack.iter().filter(|layer| unpacked.contains(&layer.chain_id)) {
            records.add(&layer.descriptor, [(labels::UNCOMPRESSED.to_owned(), layer.diff_id.to_string())].into());
        }
        Ok(top)
    }

    /// Fetches the config and plans the layers by it, for which its bytes need not be on disk yet.
    async fn config(&self, lease: &Lease, image: &plan::Image, sole: bool, planned: &Planned) -> Result<(), Status> {
        let config = &image.manifest.config;
        let coming = Coming::new();
        let fetch = layer::fetch(self, config, &coming, Stage::Done);
        if !self.wish.unpack {
            return fetch.await.map(drop);
        }
        let plan = async {
            let bytes = self.read(config, &coming).await?;
            let parsed = Config::parse(config.digest, &bytes).map_err(|error| {
                plan::refuse(error).context("the image cannot be unpacked (--no-unpack only fetches it)")
            })?;
            let stack = plan::stack(image, &parsed)?;
            if sole {
                plan::check_platform(image, &parsed, &self.wish.platforms)?;
            }
            let there = self.prepare(lease, &stack).await?;
            planned.send_replace(Some(Arc::new(Layers { stack, there })));
            Ok(())
        };
        tokio::try_join!(fetch, plan).map(drop)
    }

    /// Fetches and unpacks all layers. Answers the chain ids that were unpacked here. Every blob is fetched, also where
    /// its snapshot exists already (the missing-blobs rule).
    async fn layers(&self, lease: &Lease, image: &plan::Image, planned: &Planned) -> Result<Vec<Digest>, Status> {
        let count = image.manifest.layers.len();
        let (ready, to_commit) = mpsc::channel(count.max(1));
        let all = async {
            let each = self.work.order(&image.manifest.layers).into_iter().map(|(position, descriptor)| {
                let ready = ready.clone();
                async move {
                    if let Some(commit) = self.layer(lease, position, descriptor, planned).await? {
                        // The committer ends before us only by an error, which ends us too.
                        drop(ready.send((position, commit)).await);
                    }
                    Ok(())
                }
            });
            let done = each.collect::<FuturesUnordered<_>>().try_collect::<()>().await;
            drop(ready);
            done
        };
        let mut stack = Stack::new(count, 0);
        let done = tokio::try_join!(all, self.commit(&mut stack, to_commit));
        // What is unpacked and not committed when this fails stays under the lease, for the next try; not where the disk is full.
        if let Err(status) = &done
            && status.code == Code::ResourceExhausted
        {
            for commit in stack.leftovers() {
                self.drop_unpacked(commit).await;
            }
        }
        done.map(|((), unpacked)| unpacked)
    }

    /// Commits what is ready, from the bottom up, as many layers at once as there are: they share one flush.
    async fn commit(
        &self,
        stack: &mut Stack<LayerCommit>,
        mut ready: mpsc::Receiver<(usize, LayerCommit)>,
    ) -> Result<Vec<Digest>, Status> {
        let mut unpacked = Vec::new();
        while let Some((position, commit)) = ready.recv().await {
            stack.ready(position, commit);
            while let Ok((position, commit)) = ready.try_recv() {
                stack.ready(position, commit);
            }
            let layers: Vec<LayerCommit> =
                stack.take_next().into_iter().filter(|commit| !commit.key.is_empty()).collect();
            if layers.is_empty() {
                continue;
            }
            unpacked.extend(layers.iter().filter_map(|commit| commit.chain_id.parse::<Digest>().ok()));
            let committed = self.unpacker.commit_layers(CommitLayersRequest {
                namespace: self.wish.namespace.clone(),
                snapshotter: self.wish.snapshotter.clone(),
                layers,
            });
            self.board.ledger.step(None, What::Commit, committed).await?;
        }
        Ok(unpacked)
    }

    async fn drop_unpacked(&self, commit: LayerCommit) {
        if commit.key.is_empty() {
            return;
        }
        let request = RemoveTreeRequest {
            namespace: self.wish.namespace.clone(),
            snapshotter: self.wish.snapshotter.clone(),
            key: commit.key,
        };
        if let Err(status) = self.unpacker.remove_tree(request).await {
            tracing::debug!(%status, "an unpacked layer of a failed pull stays for the collection");
        }
    }

    /// One layer. `None` when nothing is to be unpacked; a commit with an empty key when its snapshot exists.
    async fn layer(
        &self,
        lease: &Lease,
        position: usize,
        descriptor: &Descriptor,
        planned: &Planned,
    ) -> Result<Option<LayerCommit>, Status> {
        let coming = Coming::new();
        let then = if self.wish.unpack { Stage::Unpacking } else { Stage::Done };
        let fetch = layer::fetch(self, descriptor, &coming, then);
        if !self.wish.unpack {
            fetch.await?;
            return Ok(None);
        }
        let unpack = async {
            let mut known = planned.subscribe();
            let planned = match known.wait_for(Option::is_some).await {
                Ok(planned) => planned.clone().unwrap_or_default(),
                Err(_config_failed) => {
                    return Err(Status::aborted("the config of the image could not be read"));
                }
            };
            let layer = planned.stack.get(position);
            let layer = layer.ok_or_else(|| Status::internal(format!("layer {position} is not in the plan")))?;
            let commit = LayerCommit {
                chain_id: layer.chain_id.to_string(),
                parent: layer.parent.map(|parent| parent.to_string()).unwrap_or_default(),
                ..LayerCommit::default()
            };
            if planned.there.contains(&commit.chain_id) {
                return Ok(commit);
            }
            let job = self.unpack_job(lease, layer);
            let outcome = layer::unpack(self, job, descriptor, &coming).await?;
            Ok(LayerCommit { key: outcome.key, id: outcome.id, ..commit })
        };
        let (fetched, commit) = tokio::try_join!(fetch, unpack)?;
        let nothing_done = fetched.existed && commit.key.is_empty();
        self.board.item(descriptor, |item| item.set_stage(if nothing_done { Stage::Exists } else { Stage::Done }));
        Ok(Some(commit))
    }

    /// Puts the snapshots of the layers under the lease, and prepares those that are to be unpacked; answers the chain ids of
    /// the others.
    async fn prepare(&self, lease: &Lease, stack: &[plan::Layer]) -> Result<HashSet<String>, Status> {
        let jobs: Vec<UnpackJob> = stack.iter().map(|layer| self.unpack_job(lease, layer)).collect();
        let mut there = HashSet::new();
        for batch in jobs.chunks(BATCH) {
            let expected = self.work.prepared.expect(&self.id, batch.iter().map(UnpackJob::key), &self.work.unpacking);
            let wanted: Vec<_> = batch.iter().map(UnpackJob::snapshot).collect();
            let prepared = lease.prepare(&wanted).await?;
            for ((job, wanted), found) in batch.iter().zip(wanted).zip(prepared) {
                if found.unneeded {
                    there.insert(wanted.unless);
                } else if found.id != 0 {
                    let snapshot = Unfilled { snapshotter: wanted.snapshotter, key: wanted.key, id: found.id };
                    expected.came(&job.key(), snapshot);
                }
            }
        }
        Ok(there)
    }

    fn unpack_job(&self, lease: &Lease, layer: &plan::Layer) -> UnpackJob {
        UnpackJob {
            namespace: self.wish.namespace.clone(),
            snapshotter: self.wish.snapshotter.clone(),
            layer: Some((&layer.descriptor).into()),
            diff_id: layer.diff_id.to_string(),
            chain_id: layer.chain_id.to_string(),
            lease: lease.id.clone(),
            // Whoever submits it says, if it is known then.
            place: None,
            snapshot_id: 0,
        }
    }
}
