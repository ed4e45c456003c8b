//! `CommitLayers`: unpacked layers become committed snapshots, in their order, with one flush and one batch of records.

use std::{collections::HashMap, sync::Arc};

use berth_api::blocking;
use berth_failpoint::{Point, pass};
use berth_model::{Code, Status, labels};
use berth_wire::{
    metadata::{CommitSnapshotRequest, CommitSnapshotsRequest},
    types::Usage,
    unpacker::{CommitLayersReply, CommitLayersRequest, LayerCommit},
};
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use crate::{Service, layout, lock::Lock, rebase::Below, snapshots::PATIENCE, snapshotter::Snapshotter};

/// So many records in one batch: a message stays far from the largest that a bus carries.
const BATCH: usize = 250;
/// With less to write, two flushes take longer than one.
const AHEAD: u64 = 4 << 20;

/// Where the layers are, and what is there of them.
struct Stack<'a> {
    namespace: &'a str,
    snapshotter: &'a str,
    trees: &'a Snapshotter,
    /// On the layers' directories. Whoever is at a tree holds them, also when nobody waits for it any more.
    locks: Arc<Vec<Lock>>,
    there: HashMap<String, u64>,
}

/// A layer whose tree is as it shall be.
struct Settled {
    layer: LayerCommit,
    usage: Usage,
}

impl Service {
    pub(crate) async fn commit_stack(&self, request: CommitLayersRequest) -> Result<CommitLayersReply, Status> {
        let CommitLayersRequest { namespace, snapshotter, layers } = request;
        let trees = self.snapshotter(&snapshotter)?;
        // A call that got lost is sent again, perhaps to another unpacker: the second waits, and finds it done.
        let mut locks = Vec::new();
        for layer in &layers {
            locks.extend(Lock::on_dir(&trees.layout().dir(layer.id), PATIENCE).await?);
        }
        let heard = self.refusals().heard();
        let there = self.there(&namespace, &snapshotter, layers.iter().map(|layer| layer.chain_id.clone())).await?;
        let locks = Arc::new(locks);
        let stack = Stack { namespace: &namespace, snapshotter: &snapshotter, trees: &trees, locks, there };
        let ahead = self.flush_ahead(&trees, &layers);
        let settled = self.settle(&stack, layers).await?;
        if let Some(ahead) = ahead {
            let flushed = ahead.await;
            flushed.map_err(|error| Status::internal(format!("a flush ended early: {error}")))??;
        }
        if let (true, Some(last)) = (self.flush(), settled.last()) {
            let (trees, id, refusals) = (trees.clone(), last.layer.id, self.refusals());
            let flush = move || refusals.note(trees.layout().flush(id));
            blocking(flush).instrument(tracing::info_span!("flush")).await?;
        }
        self.refusals().none_since(heard)?;
        for batch in settled.chunks(BATCH) {
            pass(Point::UnpackCommit);
            self.record(&stack, batch).await?;
        }
        drop(stack);
        self.forget_later();
        Ok(CommitLayersReply {})
    }

    /// Has the disk take what was unpacked while layers are settled, if that is worth it; the flush behind them then finds
    /// little left. An error is told once, so it must be heard here.
    fn flush_ahead(&self, trees: &Snapshotter, layers: &[LayerCommit]) -> Option<JoinHandle<Result<(), Status>>> {
        // A lowest layer has nothing below to settle.
        let settles = layers.iter().any(|layer| !layer.parent.is_empty());
        if !settles || !self.flush() || self.writers().unflushed() < AHEAD {
            return None;
        }
        let (all, refusals) = (trees.layout().all(), self.refusals());
        let flush = blocking(move || refusals.note(layout::flush(&all)));
        Some(tokio::spawn(flush.instrument(tracing::info_span!("flush ahead"))))
    }

    /// Settles what each layer left open, over its chain. Those that somebody else committed are not needed.
    async fn settle(&self, stack: &Stack<'_>, layers: Vec<LayerCommit>) -> Result<Vec<Settled>, Status> {
        let mut settled = Vec::new();
        let mut below: Option<(String, Vec<u64>)> = None;
        let mut known = Below::with(self.memory());
        let mut layers = layers.into_iter().peekable();
        while let Some(layer) = layers.next() {
            let mut chain = match below.take() {
                Some((name, chain)) if name == layer.parent => chain,
                _ => self.chain(stack.namespace, stack.snapshotter, &layer.parent).await?,
            };
            let mut top = layer.chain_id.clone();
            if let Some(other) = stack.there.get(&layer.chain_id) {
                self.drop_unneeded(stack, &layer).await;
                chain.insert(0, *other);
            } else {
                let mut run = vec![layer];
                while let Some(next) =
                    layers.next_if(|next| next.parent == top && !stack.there.contains_key(&next.chain_id))
                {
                    top.clone_from(&next.chain_id);
                    run.push(next);
                }
                let (trees, locks) = (stack.trees.clone(), Arc::clone(&stack.locks));
                let work = move || {
                    let _locks = locks;
                    let settled = settle_run(&trees, run, &mut chain, &mut known)?;
                    Ok((settled, chain, known))
                };
                let done;
                (done, chain, known) = blocking(work).await?;
                settled.extend(done);
            }
            below = Some((top, chain));
        }
        Ok(settled)
    }

    /// Writes the records, at once if it can be.
    async fn record(&self, stack: &Stack<'_>, settled: &[Settled]) -> Result<(), Status> {
        let commits = settled.iter().map(|one| stack.commit(one)).collect();
        match self.metadata().commit_snapshots(CommitSnapshotsRequest { commits }).await {
            Ok(_) => committed(stack, settled.iter().map(|one| one.layer.id).collect()).await,
            // Somebody was quicker with one of them.
            Err(status) if status.code == Code::AlreadyExists => {
                for one in settled {
                    self.record_one(stack, one).await?;
                }
                Ok(())
            }
            Err(status) => Err(status),
        }
    }

    async fn record_one(&self, stack: &Stack<'_>, one: &Settled) -> Result<(), Status> {
        match self.metadata().commit_snapshot(stack.commit(one)).await {
            Ok(_) => committed(stack, vec![one.layer.id]).await,
            Err(status) if status.code == Code::AlreadyExists => {
                self.drop_snapshot(stack.namespace, stack.snapshotter, &one.layer.key, one.layer.id).await
            }
            Err(status) => Err(status),
        }
    }

    async fn drop_unneeded(&self, stack: &Stack<'_>, layer: &LayerCommit) {
        if let Err(status) = self.drop_snapshot(stack.namespace, stack.snapshotter, &layer.key, layer.id).await {
            tracing::debug!(%status, "an unneeded unpacking stays for the collection");
        }
    }
}

/// Settles layers that lie one upon the other, on a chain that grows by them.
fn settle_run(
    trees: &Snapshotter,
    run: Vec<LayerCommit>,
    chain: &mut Vec<u64>,
    known: &mut Below,
) -> Result<Vec<Settled>, Status> {
    let each = run.into_iter().map(|layer| {
        let span = tracing::info_span!("rebase", id = layer.id);
        let usage = span.in_scope(|| trees.settle_in(layer.id, chain, known))?;
        chain.insert(0, layer.id);
        Ok(Settled { layer, usage })
    });
    each.collect()
}

impl Stack<'_> {
    fn commit(&self, Settled { layer, usage }: &Settled) -> CommitSnapshotRequest {
        CommitSnapshotRequest {
            namespace: self.namespace.to_owned(),
            snapshotter: self.snapshotter.to_owned(),
            key: layer.key.clone(),
            name: layer.chain_id.clone(),
            labels: labels::Labels::new(),
            usage: Some(*usage),
            parent: layer.parent.clone(),
            id: layer.id,
            ..CommitSnapshotRequest::default()
        }
    }
}

async fn committed(stack: &Stack<'_>, ids: Vec<u64>) -> Result<(), Status> {
    let trees = stack.trees.clone();
    blocking(move || {
        ids.into_iter().try_for_each(|id| {
            pass(Point::UnpackCommitted);
            trees.committed(id)
        })
    })
    .await
}
