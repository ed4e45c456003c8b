//! A large store: a fifth of its blobs are manifests, which refer to fifty others each; half of them have an image.

use std::{fs, path::Path, sync::Arc};

use berth_api::metadata::Metadata;
use berth_model::{Digest, Status};
use berth_wire::{metadata as msg, types};
use msg::put_content_request::Entry;
use tokio::task::JoinSet;

pub(crate) const NS: &str = "default";
/// Of five blobs one is a manifest, which refers to fifty: ten references for each blob.
pub(crate) const MANIFEST_EVERY: usize = 5;
pub(crate) const REFERENCES: usize = 50;
/// Files as the content store has them. What is in them is of no matter here.
pub(crate) fn files(content: &Path, blobs: usize) {
    let dir = content.join("blobs/sha256");
    fs::create_dir_all(&dir).unwrap();
    for n in 0..blobs {
        fs::write(dir.join(digest(n).hex()), [7; 1000]).unwrap();
    }
}

fn digest(n: usize) -> Digest {
    Digest::of(&n.to_le_bytes())
}

/// A store of so many blobs, of which the second half has no image.
pub(crate) struct Large {
    metadata: Arc<dyn Metadata>,
    blobs: usize,
}

impl Large {
    pub(crate) async fn fill(metadata: Arc<dyn Metadata>, blobs: usize) -> Self {
        let large = Self { metadata, blobs };
        for first in (0..blobs).step_by(300) {
            let entries = (first..blobs.min(first + 300)).map(|n| large.entry(n)).collect();
            large
                .metadata
                .put_content(msg::PutContentRequest { namespace: NS.into(), entries, ..Default::default() })
                .await
                .unwrap();
        }
        let mut puts = JoinSet::new();
        for n in (0..blobs / 2).step_by(MANIFEST_EVERY) {
            puts.spawn(put_image(Arc::clone(&large.metadata), format!("image-{n}"), digest(n)));
            if puts.len() > 100 {
                puts.join_next().await.unwrap().unwrap().unwrap();
            }
        }
        puts.join_all().await.into_iter().for_each(Result::unwrap);
        large
    }

    /// A manifest refers to others of its half.
    fn entry(&self, n: usize) -> Entry {
        let half = self.blobs / 2;
        let label = |k: usize| {
            let to = (n / half) * half + (n * REFERENCES / MANIFEST_EVERY + k) % half;
            (format!("containerd.io/gc.ref.content.l.{k}"), digest(to).to_string())
        };
        let references = if n.is_multiple_of(MANIFEST_EVERY) { REFERENCES } else { 0 };
        Entry {
            digest: digest(n).to_string(),
            size: 1000,
            labels: (0..references).map(label).collect(),
            ..Entry::default()
        }
    }

    pub(crate) async fn count(&self) -> usize {
        let (mut count, mut after) = (0, String::new());
        loop {
            let request = msg::ListContentRequest { namespace: NS.into(), after, limit: 0 };
            let page = self.metadata.list_content(request).await.unwrap();
            count += page.contents.len();
            after = page.contents.last().map(|content| content.digest.clone()).unwrap_or_default();
            if !page.more {
                return count;
            }
        }
    }
}

pub(crate) async fn put_image(metadata: Arc<dyn Metadata>, name: String, target: Digest) -> Result<(), Status> {
    let target = types::Descriptor {
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        digest: target.to_string(),
        size: 1000,
        ..Default::default()
    };
    let image = msg::Image { name, target: Some(target), ..Default::default() };
    let request = msg::PutImageRequest { namespace: NS.into(), image: Some(image), ..Default::default() };
    metadata.put_image(request).await.map(drop)
}
