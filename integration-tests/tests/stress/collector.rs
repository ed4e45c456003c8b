//! A collector by its protocol, of which each step may be late, and which may die between any two of them.

use std::{sync::Arc, time::Duration};

use berth_model::{Code, Status};
use berth_wire::{content as blobs, metadata as msg, types::Time};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;

use crate::world::{LEAVE, TOO_LATE, Without, World, count, dawdle, travel};

/// Collects until the world stops, and lets its last messages arrive.
pub(crate) async fn collect_again_and_again(world: Arc<World>, mut rng: StdRng) {
    let mut messages = JoinSet::new();
    while !world.is_stopped() {
        // `None`: it died there.
        let _died = round(&world, &mut rng, &mut messages).await;
        dawdle(&mut rng).await;
        while let Some(arrived) = messages.try_join_next() {
            arrived.unwrap();
        }
    }
    messages.join_all().await;
}

/// Dies now and then.
fn survives(rng: &mut StdRng) -> Option<()> {
    (!rng.random_ratio(1, 60)).then_some(())
}

async fn round(world: &Arc<World>, rng: &mut StdRng, messages: &mut JoinSet<()>) -> Option<()> {
    sweep(world, rng).await?;
    let listed = world.content.list_blobs(blobs::ListBlobsRequest::default()).await.unwrap().blobs;
    for part in listed.chunks(2) {
        let digests = part.iter().map(|blob| blob.digest.clone()).collect();
        survives(rng)?;
        let condemned = world.metadata.condemn_contents(msg::CondemnContentsRequest { digests }).await.unwrap();
        if condemned.digests.is_empty() {
            continue;
        }
        dawdle(rng).await;
        survives(rng)?;
        delete(world, rng, messages, condemned).await?;
    }
    Some(())
}

async fn sweep(world: &World, rng: &mut StdRng) -> Option<()> {
    // Who does not come to watch loses its round while it lives.
    let watched = rng.random_bool(0.5);
    let mark_id = match world.metadata.mark(msg::MarkRequest { watched }).await {
        Ok(marked) => marked.mark_id,
        // Another's round is under way: the blobs can be gone through all the same.
        Err(status) if status.code == Code::Unavailable => return Some(()),
        Err(status) => panic!("{status}"),
    };
    count(&world.counts.rounds, 1);
    loop {
        dawdle(rng).await;
        survives(rng)?;
        match world.metadata.sweep(msg::SweepRequest { mark_id: mark_id.clone(), limit: 2 }).await {
            Ok(swept) => {
                count(&world.counts.swept, swept.removed.len());
                if swept.done {
                    break;
                }
            }
            // It was too slow, and forgotten.
            Err(status) if status.code == Code::FailedPrecondition => return Some(()),
            Err(status) => panic!("{status}"),
        }
    }
    survives(rng)?;
    world.metadata.end_mark(msg::EndMarkRequest { mark_id }).await.unwrap();
    Some(())
}

/// Sends the deletion, waits for the answer for a while, and absolves.
async fn delete(
    world: &Arc<World>,
    rng: &mut StdRng,
    messages: &mut JoinSet<()>,
    condemned: msg::CondemnContentsReply,
) -> Option<()> {
    let without = |fence| world.without == Some(fence);
    let not_after = if without(Without::NotAfter) {
        Some(Time { seconds: i64::from(i32::MAX), nanos: 0 })
    } else {
        condemned.until
    };
    let request = blobs::DeleteBlobsRequest { digests: condemned.digests.clone(), not_after, owner: "a test".into() };
    let (told, answer) = tokio::sync::oneshot::channel();
    let (deleting, mut own) = (Arc::clone(world), StdRng::seed_from_u64(rng.random()));
    messages.spawn(async move {
        travel(&mut own).await;
        let done = deleting.content.delete_blobs(request).await;
        counted(&deleting, &done);
        let _collector_gone = told.send(());
    });
    survives(rng)?;
    let most = if rng.random() { LEAVE } else { TOO_LATE };
    let patience = most.mul_f64(rng.random_range(0.0..1.0));
    let answered = tokio::time::timeout(patience, answer).await.is_ok();
    if !answered && !without(Without::AnswerFirst) {
        return Some(());
    }
    survives(rng)?;
    let (absolving, mut own) = (Arc::clone(world), StdRng::seed_from_u64(rng.random()));
    messages.spawn(async move {
        travel(&mut own).await;
        let request = msg::AbsolveContentsRequest { digests: condemned.digests, until: condemned.until };
        absolving.metadata.absolve_contents(request).await.unwrap();
    });
    Some(())
}

fn counted(world: &World, done: &Result<blobs::DeleteBlobsReply, Status>) {
    match done {
        Ok(done) => count(&world.counts.deleted, done.deleted.len()),
        Err(status) if status.code == Code::FailedPrecondition => count(&world.counts.refused, 1),
        Err(status) => panic!("{status}"),
    }
}

/// One round with all the time in the world: what is left then?
pub(crate) async fn collect_the_rest(world: &World) -> Vec<String> {
    let mark_id = loop {
        match world.metadata.mark(msg::MarkRequest::default()).await {
            Ok(marked) => break marked.mark_id,
            Err(status) if status.code == Code::Unavailable => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(status) => panic!("{status}"),
        }
    };
    while !world.metadata.sweep(msg::SweepRequest { mark_id: mark_id.clone(), limit: 0 }).await.unwrap().done {}
    world.metadata.end_mark(msg::EndMarkRequest { mark_id }).await.unwrap();
    let mut left = Vec::new();
    for _ in 0..500 {
        let listed = world.content.list_blobs(blobs::ListBlobsRequest::default()).await.unwrap().blobs;
        left = listed.into_iter().map(|blob| blob.digest).collect();
        if left.is_empty() {
            break;
        }
        let request = msg::CondemnContentsRequest { digests: left.clone() };
        let condemned = world.metadata.condemn_contents(request).await.unwrap();
        if condemned.digests.is_empty() {
            // Condemned by one that died: that ends by itself.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        let request = blobs::DeleteBlobsRequest {
            digests: condemned.digests.clone(),
            not_after: condemned.until,
            owner: "a test".into(),
        };
        counted(world, &world.content.delete_blobs(request).await);
        let request = msg::AbsolveContentsRequest { digests: condemned.digests, until: condemned.until };
        world.metadata.absolve_contents(request).await.unwrap();
    }
    left
}
