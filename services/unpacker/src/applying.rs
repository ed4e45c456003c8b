//! `ApplyLayer`: a layer of the content store onto mounts.

use berth_api::{blocking, content::BlobReader};
use berth_model::{Code, Descriptor, MediaType, Status, media_type::Kind};
use berth_wire::{
    convert,
    metadata::GetContentRequest,
    unpacker::{ApplyLayerReply, ApplyLayerRequest},
};

use crate::{Service, onto};

impl Service {
    pub(crate) async fn apply(&self, request: ApplyLayerRequest) -> Result<ApplyLayerReply, Status> {
        let layer = Descriptor::try_from(convert::required(request.layer.as_ref(), "layer")?)?;
        if MediaType::new(layer.media_type.as_str()).kind() != Kind::Layer {
            return Err(Status::new(
                Code::Unknown,
                format!("no processor for media-type {:?}: it is no layer's", layer.media_type.as_str()),
            ));
        }
        let known = GetContentRequest { namespace: request.namespace, digest: layer.digest.to_string() };
        self.metadata().get_content(known).await?;
        let target = onto::Target::of(&request.mounts)?;
        let reader = BlobReader::new(self.content(), tokio::runtime::Handle::current(), layer.digest, || false);
        let (snapshotters, sync) = (self.snapshotters().to_vec(), request.sync);
        let layout = self.scratch_layout()?;
        let streamed = blocking(move || {
            let made = onto::Made { snapshotters: &snapshotters, layout: &layout, layer: &layer.digest.to_string() };
            let streamed = made.apply(&target, reader)?;
            if sync {
                target.sync()?;
            }
            Ok(streamed)
        });
        let streamed = streamed.await?;
        Ok(ApplyLayerReply { diff_id: streamed.diff_id.to_string(), size: streamed.size })
    }
}
