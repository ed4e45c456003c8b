//! An order too rare to wait for, step by step: an absolution that comes so late that another's condemnation lasts.

use std::sync::Arc;

use berth_api::content::BlobWriter;
use berth_metadata::Fence;
use berth_model::{Code, Digest, Status};
use berth_wire::{content as blobs, metadata as msg, types::Time};

use crate::{
    QUIET,
    world::{Without, World, dawdle},
};

/// Whether a lease was given in the middle of a deletion, and what is left of the bytes it should protect.
async fn late_absolution(without: Option<Without>) -> (Result<(), Status>, bool) {
    let world = World::new(1, QUIET, without).await;
    let (digest, bytes) = world.blobs[0].clone();
    let mut writer = BlobWriter::open(Arc::clone(&world.content), "it", Some(&digest), 0).await.unwrap();
    writer.write(bytes.clone()).await.unwrap();
    writer.commit(bytes.len() as u64, &digest).await.unwrap();
    let lease = msg::CreateLeaseRequest { namespace: "a".into(), id: "l".into(), ..Default::default() };
    world.metadata.create_lease(lease).await.unwrap();

    let first = condemn(&world, &digest).await;
    let second = condemn(&world, &digest).await;
    let late = msg::AbsolveContentsRequest { digests: vec![digest.to_string()], until: first };
    world.metadata.absolve_contents(late).await.unwrap();

    let resource = msg::Resource { r#type: "content".into(), id: digest.to_string() };
    let request = msg::AddLeaseResourcesRequest { namespace: "a".into(), id: "l".into(), resources: vec![resource] };
    let leased = world.metadata.add_lease_resources(request).await.map(drop);
    assert!(world.has_bytes(&digest).await, "nothing was deleted yet");
    let owner = "a test".to_owned();
    let delete = blobs::DeleteBlobsRequest { digests: vec![digest.to_string()], not_after: second, owner };
    if let Err(status) = world.content.delete_blobs(delete).await {
        assert_eq!(status.code, Code::FailedPrecondition, "on a busy machine its time may be over: {status}");
    }
    (leased, world.has_bytes(&digest).await)
}

/// Condemns as soon as the condemnation before is over by itself.
async fn condemn(world: &World, digest: &Digest) -> Option<Time> {
    let mut rng = rand::SeedableRng::seed_from_u64(1);
    loop {
        let request = msg::CondemnContentsRequest { digests: vec![digest.to_string()] };
        let condemned = world.metadata.condemn_contents(request).await.unwrap();
        if !condemned.digests.is_empty() {
            return condemned.until;
        }
        dawdle(&mut rng).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_absolution_ends_no_other_condemnation() {
    let (leased, _) = late_absolution(None).await;
    assert_eq!(leased.unwrap_err().code, Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absolution_must_be_of_its_own() {
    // On a busy machine the deletion may come too late, and is refused.
    for _ in 0..20 {
        let (leased, there) = late_absolution(Some(Without::OfMetadata(Fence::OwnCondemnation))).await;
        leased.unwrap();
        if !there {
            return;
        }
    }
    panic!("a lease was given in the middle of a deletion, and nothing was lost");
}
