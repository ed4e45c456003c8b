//! The documents of many images, read ahead: those that are small and as they should be, many in one call.
//!
//! What is not found here is asked of as if nothing had been read ahead; so whatever is odd, missing or damaged, and a
//! daemon that does not know the call, look the same as without it.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicBool, Ordering},
};

use berth_model::{Descriptor, Digest, Index, Kind, Manifest};
use berth_wire::{gateway::ReadSmallRequest, metadata::Image};

use crate::client::Client;

/// Digests in one call.
const MANY: usize = 128;

/// When so many bytes are here, no more are asked for.
const BYTES: usize = 16 << 20;

/// Documents by their digests.
#[derive(Default)]
pub(crate) struct Ahead {
    here: HashMap<Digest, Vec<u8>>,
    absent: HashSet<Digest>,
    bytes: usize,
}

impl Ahead {
    /// Reads index, manifests and configs of these images. `offered`: whether it is worth a try; a call that fails says no.
    pub(crate) async fn of(client: &Client, images: &[&Image], offered: &AtomicBool) -> Self {
        let mut ahead = Self::default();
        let targets = images.iter().filter_map(|image| Descriptor::try_from(image.target.as_ref()?).ok());
        let mut wanted: Vec<Descriptor> = targets.collect();
        // An index, its manifests, and their configs.
        for _round in 0..3 {
            ahead.fetch(client, &wanted, offered).await;
            wanted = wanted.iter().flat_map(|descriptor| ahead.named_by(descriptor)).collect();
        }
        ahead
    }

    async fn fetch(&mut self, client: &Client, wanted: &[Descriptor], offered: &AtomicBool) {
        let asked: HashSet<Digest> = wanted.iter().map(|descriptor| descriptor.digest).collect();
        let asked: Vec<String> =
            asked.into_iter().filter(|digest| self.get(digest).is_none()).map(|digest| digest.to_string()).collect();
        for digests in asked.chunks(MANY) {
            if !offered.load(Ordering::Relaxed) || self.bytes >= BYTES {
                return;
            }
            let request = ReadSmallRequest { namespace: client.namespace.clone(), digests: digests.to_vec() };
            let reply = match client.content().read_small(request).await {
                Ok(reply) => reply.into_inner(),
                Err(error) => {
                    tracing::debug!(%error, "documents are read one by one");
                    return offered.store(false, Ordering::Relaxed);
                }
            };
            self.bytes += reply.blobs.iter().map(|blob| blob.data.len()).sum::<usize>();
            let here = reply.blobs.into_iter().filter_map(|blob| Some((blob.digest.parse().ok()?, blob.data)));
            self.here.extend(here);
            self.absent.extend(reply.absent.iter().filter_map(|digest| digest.parse::<Digest>().ok()));
        }
    }

    /// The documents that this one names.
    fn named_by(&self, descriptor: &Descriptor) -> Vec<Descriptor> {
        let digest = descriptor.digest;
        let Some(bytes) = self.get(&digest) else { return Vec::new() };
        match Kind::of_document(digest, &descriptor.media_type, bytes) {
            Ok(Kind::Index) => Index::parse(digest, bytes).map_or_else(|_odd| Vec::new(), |index| index.manifests),
            Ok(_) => Manifest::parse(digest, bytes).map_or_else(|_odd| Vec::new(), |manifest| vec![manifest.config]),
            Err(_odd) => Vec::new(),
        }
    }

    /// The bytes of a document.
    pub(crate) fn get(&self, digest: &Digest) -> Option<&[u8]> {
        self.here.get(digest).map(Vec::as_slice)
    }

    /// Whether the namespace has it, as far as that is known.
    pub(crate) fn has(&self, digest: &Digest) -> Option<bool> {
        if self.absent.contains(digest) { Some(false) } else { self.get(digest).map(|_here| true) }
    }
}
