//! Images: each needs its documents and layers, recorded and there.

use berth_api::content::read_document;
use berth_model::{Code, Config, Descriptor, Digest, Index, Kind, Manifest, Reference, Status, chain_ids};
use berth_wire::{
    gc::item::Outcome,
    metadata::{GetContentRequest, Image, ListImagesRequest},
};

use super::{Checking, Unpacked};

impl Checking<'_> {
    /// Looks at all images of a namespace.
    pub(super) async fn images(&mut self, namespace: &str) -> Result<(), Status> {
        let mut after = String::new();
        loop {
            let request = ListImagesRequest { namespace: namespace.to_owned(), after, ..ListImagesRequest::default() };
            let page = self.backend.metadata.list_images(request).await?;
            let last = page.images.last().map(|image| image.name.clone());
            self.report.count(|summary| summary.checked += page.images.len() as u64);
            for image in page.images {
                if let Err(status) = self.image(namespace, &image).await {
                    self.tell(Outcome::Damaged, namespace, "images", &image.name, status.to_string());
                }
            }
            match last.filter(|_| page.more) {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    async fn image(&mut self, namespace: &str, image: &Image) -> Result<(), Status> {
        let target = Descriptor::try_from(berth_wire::convert::required(image.target.as_ref(), "target")?)?;
        let from: Vec<Reference> = image.name.parse().into_iter().collect();
        self.recorded(namespace, &image.name, &target.digest).await?;
        if !self.ensure(namespace, &target, &from).await? {
            return Ok(());
        }
        let bytes = read_document(&self.backend.content, &target).await?;
        let refuse = |error: berth_model::ManifestError| Status::data_loss(error.to_string());
        match Kind::of_document(target.digest, &target.media_type, &bytes).map_err(refuse)? {
            Kind::Index => {
                for entry in Index::parse(target.digest, &bytes).map_err(refuse)?.manifests {
                    // Platforms that were not pulled have no record.
                    if self.has_record(namespace, &entry.digest).await? {
                        self.manifest(namespace, &image.name, &entry, &from).await?;
                    }
                }
                Ok(())
            }
            _ => self.manifest(namespace, &image.name, &target, &from).await,
        }
    }

    async fn manifest(
        &mut self,
        namespace: &str,
        image: &str,
        manifest: &Descriptor,
        from: &[Reference],
    ) -> Result<(), Status> {
        if !self.ensure(namespace, manifest, from).await? {
            return Ok(());
        }
        let refuse = |error: berth_model::ManifestError| Status::data_loss(error.to_string());
        let bytes = read_document(&self.backend.content, manifest).await?;
        let parsed = Manifest::parse(manifest.digest, &bytes).map_err(refuse)?;
        let mut whole = true;
        for blob in std::iter::once(&parsed.config).chain(&parsed.layers) {
            self.recorded(namespace, image, &blob.digest).await?;
            whole &= self.ensure(namespace, blob, from).await?;
        }
        if !whole {
            return Ok(());
        }
        // What has no config of an image in it has no snapshots either.
        let bytes = read_document(&self.backend.content, &parsed.config).await?;
        let Ok(config) = Config::parse(parsed.config.digest, &bytes) else { return Ok(()) };
        for ((layer, diff_id), chain_id) in parsed.layers.iter().zip(&config.diff_ids).zip(chain_ids(&config.diff_ids))
        {
            let unpacked = Unpacked { layer: layer.clone(), diff_id: *diff_id };
            self.layers.insert((namespace.to_owned(), chain_id), unpacked);
        }
        Ok(())
    }

    /// An image keeps what it needs by the records of its namespace.
    async fn recorded(&self, namespace: &str, image: &str, digest: &Digest) -> Result<(), Status> {
        if self.has_record(namespace, digest).await? {
            return Ok(());
        }
        Err(Status::data_loss(format!(
            "it needs {digest}, of which there is no record; pull it again: berth pull {image}"
        )))
    }

    async fn has_record(&self, namespace: &str, digest: &Digest) -> Result<bool, Status> {
        let request = GetContentRequest { namespace: namespace.to_owned(), digest: digest.to_string() };
        match self.backend.metadata.get_content(request).await {
            Ok(_) => Ok(true),
            Err(status) if status.code == Code::NotFound => Ok(false),
            Err(status) => Err(status),
        }
    }
}
