//! `ApplyLayer`: a layer of the content store onto mounts.

use std::time::Duration;

use berth_api::{blocking, content::BlobReader};
use berth_model::{Code, Descriptor, Status};
use berth_wire::{
    convert,
    metadata::GetContentRequest,
    unpacker::{ApplyLayerReply, ApplyLayerRequest},
};

use crate::{Service, lock::Lock, onto};

/// How long another layer on the same directory is waited for.
const PATIENCE: Duration = Duration::from_secs(300);

/// Layers as OCI and Docker name them, and how they may be packed.
const LAYERS: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];
const PACKED: [&str; 5] = ["", "+gzip", "+zstd", ".gzip", ".zstd"];

/// Whether we know what to do with such bytes. What follows the packing (`+encrypted`) would need another program.
fn is_layer(media_type: &str) -> bool {
    let plain = media_type.split(';').next().unwrap_or_default().trim();
    LAYERS.iter().filter_map(|layer| plain.strip_prefix(layer)).any(|packed| PACKED.contains(&packed))
}

impl Service {
    pub(crate) async fn apply(&self, request: ApplyLayerRequest) -> Result<ApplyLayerReply, Status> {
        let layer = Descriptor::try_from(convert::required(request.layer.as_ref(), "layer")?)?;
        if !is_layer(layer.media_type.as_str()) {
            return Err(Status::new(
                Code::Unknown,
                format!("no processor for media-type {:?}: it is no layer's", layer.media_type.as_str()),
            ));
        }
        let known = GetContentRequest { namespace: request.namespace, digest: layer.digest.to_string() };
        self.metadata().get_content(known).await?;
        let target = onto::Target::of(&request.mounts)?;
        // A call whose connection broke comes again, perhaps to another unpacker, while the first is still at it.
        let _lock = match target.dir() {
            Some(dir) => Lock::on_dir(dir, PATIENCE).await?,
            None => None,
        };
        // Half a layer is of no use to anybody: when its caller leaves, applying it ends.
        let gone = berth_bus::caller_gone();
        let cancelled = move || gone.is_cancelled();
        let reader =
            BlobReader::new(self.content(), tokio::runtime::Handle::current(), layer.digest, cancelled.clone());
        let (snapshotters, sync) = (self.snapshotters().to_vec(), request.sync);
        let (layout, writers, refusals) = (self.scratch_layout()?, self.writers(), self.refusals());
        let heard = refusals.heard();
        let streamed = blocking(move || {
            let made = onto::Made {
                snapshotters: &snapshotters,
                layout: &layout,
                layer: &layer.digest.to_string(),
                writers: &writers,
                cancelled: &cancelled,
            };
            let streamed = made.apply(&target, reader)?;
            if sync {
                refusals.note(target.sync())?;
            }
            refusals.none_since(heard)?;
            Ok(streamed)
        });
        let streamed = streamed.await?;
        Ok(ApplyLayerReply { diff_id: streamed.diff_id.to_string(), size: streamed.size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_by_their_types() {
        for (media_type, expected) in [
            ("application/vnd.oci.image.layer.v1.tar", true),
            ("application/vnd.oci.image.layer.v1.tar+zstd", true),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", true),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip; a=b", true),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", false),
            ("application/vnd.oci.image.layer.v1.erofs", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_layer(media_type), expected, "{media_type}");
        }
    }
}
