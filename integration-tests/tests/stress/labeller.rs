//! Whoever names a blob in a label of a record of his own: first he names it, then he looks; what he saw stays.

use std::sync::Arc;

use berth_model::Digest;
use berth_wire::metadata as msg;
use bytes::Bytes;
use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::world::{World, count, dawdle};

const NAMESPACE: &str = "a";

/// The record whose labels refer to blobs. It is a root; it stands for no bytes that anybody looks at.
struct Holder<'a> {
    world: &'a World,
    digest: Digest,
}

impl Holder<'_> {
    /// An empty value takes a label off.
    async fn label(&self, key: &str, value: &str) {
        let entry = msg::put_content_request::Entry {
            digest: self.digest.to_string(),
            size: 1,
            labels: [(key.to_owned(), value.to_owned())].into(),
            ..Default::default()
        };
        let request =
            msg::PutContentRequest { namespace: NAMESPACE.into(), entries: vec![entry], ..Default::default() };
        self.world.metadata.put_content(request).await.unwrap();
    }
}

pub(crate) async fn label_again_and_again(world: Arc<World>, number: usize, mut rng: StdRng) {
    let digest = Digest::of(&Bytes::from(format!("holder {number}")));
    let holder = Holder { world: &world, digest };
    holder.label("containerd.io/gc.root", "yes").await;
    while !world.is_stopped() {
        let blob = world.blobs.choose(&mut rng).unwrap().0;
        // Only what is recorded is worth naming.
        if !world.has_record(NAMESPACE, &blob).await {
            dawdle(&mut rng).await;
            continue;
        }
        holder.label("containerd.io/gc.ref.content.it", &blob.to_string()).await;
        dawdle(&mut rng).await;
        if world.has_record(NAMESPACE, &blob).await {
            count(&world.counts.labelled, 1);
            for _ in 0..rng.random_range(1..6) {
                dawdle(&mut rng).await;
                world.expect("a label", NAMESPACE, &blob).await;
            }
        }
        holder.label("containerd.io/gc.ref.content.it", "").await;
    }
    let request = msg::DeleteContentRequest { namespace: NAMESPACE.into(), digest: digest.to_string() };
    world.metadata.delete_content(request).await.unwrap();
}
