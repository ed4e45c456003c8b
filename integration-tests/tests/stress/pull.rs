//! A pull by its protocol: lease, ask, fetch, record, image; and whoever takes leases away under it.

use std::{sync::Arc, time::Duration};

use berth_api::content::BlobWriter;
use berth_model::{Code, Digest, Status};
use berth_wire::{metadata as msg, types};
use bytes::Bytes;
use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::world::{Without, World, count, dawdle};

/// Pulls, holds, looks, deletes, again and again.
pub(crate) async fn pull_again_and_again(world: Arc<World>, number: usize, mut rng: StdRng) {
    let namespace = ["a", "b"][number % 2];
    while !world.is_stopped() {
        let pull = Pull { world: &world, namespace, image: format!("image-{number}"), rng: &mut rng };
        pull.run().await;
        // sleeps: how seldom a blob is wanted is part of what is mixed.
        tokio::time::sleep(world.crowd.pause.mul_f64(rng.random_range(0.0..1.0))).await;
    }
}

/// Takes a lease away from a pull now and then, as if its time were over.
pub(crate) async fn end_leases(world: Arc<World>, mut rng: StdRng) {
    while !world.is_stopped() {
        // sleeps: as often as pulls end, about.
        tokio::time::sleep(Duration::from_millis(20) + world.crowd.pause.mul_f64(rng.random_range(0.0..2.0))).await;
        let victim = world.leases.lock().unwrap().choose(&mut rng).cloned();
        if let Some((namespace, id)) = victim {
            let _gone = world.metadata.delete_lease(msg::DeleteLeaseRequest { namespace, id }).await;
        }
    }
}

struct Pull<'a> {
    world: &'a World,
    namespace: &'a str,
    image: String,
    rng: &'a mut StdRng,
}

impl Pull<'_> {
    async fn run(mut self) {
        let request = msg::CreateLeaseRequest { namespace: self.namespace.to_owned(), ..Default::default() };
        let lease = self.world.metadata.create_lease(request).await.unwrap().id;
        let of_this = (self.namespace.to_owned(), lease.clone());
        self.world.leases.lock().unwrap().push(of_this.clone());
        let wanted = self.wanted();
        let done = self.under(&lease, &wanted).await;
        self.world.leases.lock().unwrap().retain(|lease| *lease != of_this);
        let request = msg::DeleteLeaseRequest { namespace: self.namespace.to_owned(), id: lease };
        let _by_another = self.world.metadata.delete_lease(request).await;
        match done {
            Ok(()) => self.hold(&wanted).await,
            Err(status) if status.code == Code::NotFound => count(&self.world.counts.leases_lost, 1),
            Err(status) => panic!("{status}"),
        }
    }

    /// Some of the blobs, and a document that refers to them.
    fn wanted(&mut self) -> Vec<(Digest, Bytes)> {
        let mut wanted: Vec<(Digest, Bytes)> = self.world.blobs.sample(self.rng, 2).cloned().collect();
        let text = wanted.iter().map(|(digest, _)| digest.to_string()).collect::<Vec<_>>().join(" ");
        let document = Bytes::from(text);
        wanted.push((Digest::of(&document), document));
        wanted
    }

    async fn under(&mut self, lease: &str, wanted: &[(Digest, Bytes)]) -> Result<(), Status> {
        let lease_first = self.world.without != Some(Without::LeaseFirst);
        if lease_first {
            self.protect(lease, wanted).await?;
        }
        let mut missing = Vec::new();
        for (digest, bytes) in wanted {
            dawdle(self.rng).await;
            if !self.world.has_bytes(digest).await {
                missing.push((*digest, bytes.clone()));
            }
        }
        if !lease_first {
            self.protect(lease, wanted).await?;
        }
        for (digest, bytes) in missing {
            self.fetch(&digest, bytes).await?;
        }
        dawdle(self.rng).await;
        self.look_under(lease, wanted).await;
        self.record(lease, wanted).await?;
        dawdle(self.rng).await;
        self.put_image(lease, wanted).await
    }

    async fn protect(&mut self, lease: &str, wanted: &[(Digest, Bytes)]) -> Result<(), Status> {
        let named = |(digest, _): &(Digest, Bytes)| msg::Resource { r#type: "content".into(), id: digest.to_string() };
        let request = msg::AddLeaseResourcesRequest {
            namespace: self.namespace.to_owned(),
            id: lease.to_owned(),
            resources: wanted.iter().map(named).collect(),
        };
        loop {
            match self.world.metadata.add_lease_resources(request.clone()).await {
                Err(status) if status.code == Code::Unavailable => dawdle(self.rng).await,
                done => return done.map(drop),
            }
        }
    }

    async fn fetch(&mut self, digest: &Digest, bytes: Bytes) -> Result<(), Status> {
        let (content, size) = (Arc::clone(&self.world.content), bytes.len() as u64);
        loop {
            match write(&content, digest, bytes.clone(), size).await {
                // Another pull fetches it.
                Err(status) if matches!(status.code, Code::Unavailable | Code::Aborted | Code::NotFound) => {
                    dawdle(self.rng).await;
                }
                Err(status) if status.code != Code::AlreadyExists => return Err(status),
                Ok(()) => {
                    count(&self.world.counts.fetched, 1);
                    return Ok(());
                }
                Err(_there) => return Ok(()),
            }
        }
    }

    /// What a lease protects is there, if it still runs afterwards.
    async fn look_under(&self, lease: &str, wanted: &[(Digest, Bytes)]) {
        for (digest, _) in wanted {
            let there = self.world.has_bytes(digest).await;
            let request = msg::GetLeaseRequest { namespace: self.namespace.to_owned(), id: lease.to_owned() };
            if !there && self.world.metadata.get_lease(request).await.is_ok() {
                self.world.lose(format!("lease {lease} runs, names {digest}, and its bytes are gone"));
            }
        }
    }

    async fn record(&mut self, lease: &str, wanted: &[(Digest, Bytes)]) -> Result<(), Status> {
        let mut entries: Vec<_> = wanted
            .iter()
            .map(|(digest, bytes)| msg::put_content_request::Entry {
                digest: digest.to_string(),
                size: bytes.len() as u64,
                ..Default::default()
            })
            .collect();
        let (document, blobs) = entries.split_last_mut().unwrap();
        let label = |(n, blob): (usize, &mut msg::put_content_request::Entry)| {
            (format!("containerd.io/gc.ref.content.l.{n}"), blob.digest.clone())
        };
        document.labels = blobs.iter_mut().enumerate().map(label).collect();
        let request = msg::PutContentRequest { namespace: self.namespace.to_owned(), entries, lease: lease.to_owned() };
        loop {
            match self.world.metadata.put_content(request.clone()).await {
                Err(status) if status.code == Code::Unavailable => dawdle(self.rng).await,
                done => return done.map(drop),
            }
        }
    }

    async fn put_image(&self, lease: &str, wanted: &[(Digest, Bytes)]) -> Result<(), Status> {
        let (document, bytes) = wanted.last().unwrap();
        let target = types::Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            digest: document.to_string(),
            size: bytes.len() as u64,
            ..Default::default()
        };
        let image = msg::Image { name: self.image.clone(), target: Some(target), ..Default::default() };
        let request = msg::PutImageRequest {
            namespace: self.namespace.to_owned(),
            image: Some(image),
            lease: lease.to_owned(),
            ..Default::default()
        };
        self.world.metadata.put_image(request).await.map(drop)
    }

    /// The image is there: so is all it needs, until it is deleted.
    async fn hold(&mut self, wanted: &[(Digest, Bytes)]) {
        count(&self.world.counts.pulled, 1);
        for _ in 0..self.rng.random_range(1..6) {
            dawdle(self.rng).await;
            for (digest, _) in wanted {
                self.world.expect(&self.image, self.namespace, digest).await;
            }
        }
        let request = msg::DeleteImageRequest {
            namespace: self.namespace.to_owned(),
            name: self.image.clone(),
            ..Default::default()
        };
        self.world.metadata.delete_image(request).await.unwrap();
    }
}

async fn write(
    content: &Arc<dyn berth_api::content::Content>,
    digest: &Digest,
    bytes: Bytes,
    size: u64,
) -> Result<(), Status> {
    let mut writer = BlobWriter::open(Arc::clone(content), &format!("layer-{digest}"), Some(digest), size).await?;
    if writer.offset() == 0 {
        writer.write(bytes).await?;
    }
    writer.commit(size, digest).await.map(drop)
}
