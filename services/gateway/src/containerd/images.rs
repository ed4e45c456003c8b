//! `containerd.services.images.v1.Images`.

use std::borrow::Cow;

use berth_model::{
    Status,
    filter::{self, Fields, Filters},
    labels::GC_EXPIRE,
};
use berth_wire::{
    containerd::images::{self as api, images_server::Images},
    metadata as msg,
};
use msg::put_image_request::Mode;
use tonic::Request;

use super::{
    Grpc, Scope, answer,
    collect::collect,
    convert::{descriptor, from_descriptor, paths, time, timestamp},
    pages,
};
use crate::Backend;

#[tonic::async_trait]
impl Images for Backend {
    async fn get(&self, request: Request<api::GetImageRequest>) -> Grpc<api::GetImageResponse> {
        answer(get(self, request).await)
    }

    async fn list(&self, request: Request<api::ListImagesRequest>) -> Grpc<api::ListImagesResponse> {
        answer(list(self, request).await)
    }

    async fn create(&self, request: Request<api::CreateImageRequest>) -> Grpc<api::CreateImageResponse> {
        answer(create(self, request).await)
    }

    async fn update(&self, request: Request<api::UpdateImageRequest>) -> Grpc<api::UpdateImageResponse> {
        answer(update(self, request).await)
    }

    async fn delete(&self, request: Request<api::DeleteImageRequest>) -> Grpc<()> {
        answer(delete(self, request).await)
    }
}

async fn get(backend: &Backend, request: Request<api::GetImageRequest>) -> Result<api::GetImageResponse, Status> {
    let namespace = Scope::of(&request)?.namespace;
    let get = msg::GetImageRequest { namespace, name: request.into_inner().name };
    Ok(api::GetImageResponse { image: Some(to_image(backend.metadata.get_image(get).await?)) })
}

async fn list(backend: &Backend, request: Request<api::ListImagesRequest>) -> Result<api::ListImagesResponse, Status> {
    let namespace = Scope::of(&request)?.namespace;
    let filters = Filters::parse(&request.into_inner().filters)?;
    let fetch = |after| {
        let list = msg::ListImagesRequest { namespace: namespace.clone(), after, limit: 0 };
        async move { backend.metadata.list_images(list).await.map(|page| (page.images, page.more)) }
    };
    let images = pages::all(fetch, |image| image.name.clone(), |image| filters.matches(&Record(image))).await?;
    Ok(api::ListImagesResponse { images: images.into_iter().map(to_image).collect() })
}

async fn create(
    backend: &Backend,
    request: Request<api::CreateImageRequest>,
) -> Result<api::CreateImageResponse, Status> {
    let scope = Scope::of(&request)?;
    let api::CreateImageRequest { image, source_date_epoch } = request.into_inner();
    let image = from_image(image)?;
    scope.check_lease(backend).await?;
    // One that ends by itself lives at least as long as the lease it was made under.
    if image.labels.contains_key(GC_EXPIRE) && !image.name.is_empty() {
        scope.protect(backend, "images", &image.name).await?;
    }
    let put = msg::PutImageRequest {
        namespace: scope.namespace,
        image: Some(image),
        mode: Mode::Create.into(),
        lease: scope.lease.unwrap_or_default(),
        at: time(source_date_epoch)?,
    };
    Ok(api::CreateImageResponse { image: Some(to_image(backend.metadata.put_image(put).await?)) })
}

async fn update(
    backend: &Backend,
    request: Request<api::UpdateImageRequest>,
) -> Result<api::UpdateImageResponse, Status> {
    let namespace = Scope::of(&request)?.namespace;
    let api::UpdateImageRequest { image, update_mask, source_date_epoch } = request.into_inner();
    let update = msg::UpdateImageRequest {
        namespace,
        image: Some(from_image(image)?),
        paths: paths(update_mask),
        at: time(source_date_epoch)?,
    };
    Ok(api::UpdateImageResponse { image: Some(to_image(backend.metadata.update_image(update).await?)) })
}

async fn delete(backend: &Backend, request: Request<api::DeleteImageRequest>) -> Result<(), Status> {
    let scope = Scope::of(&request)?;
    let api::DeleteImageRequest { name, sync, target } = request.into_inner();
    let target = target.map(|target| target.digest).unwrap_or_default();
    let delete = msg::DeleteImageRequest { namespace: scope.namespace.clone(), name: name.clone(), target };
    backend.metadata.delete_image(delete).await?;
    scope.let_go(backend, "images", &name).await;
    if sync { collect(backend).await } else { Ok(()) }
}

fn from_image(image: Option<api::Image>) -> Result<msg::Image, Status> {
    let image = image.ok_or_else(|| Status::invalid_argument("image is missing in the request"))?;
    let api::Image { name, labels, target, .. } = image;
    Ok(msg::Image { name, labels, target: from_descriptor(target)?, ..msg::Image::default() })
}

fn to_image(image: msg::Image) -> api::Image {
    api::Image {
        name: image.name,
        labels: image.labels,
        target: descriptor(image.target),
        created_at: timestamp(image.created_at),
        updated_at: timestamp(image.updated_at),
    }
}

struct Record<'a>(&'a msg::Image);

impl Fields for Record<'_> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        let target = self.0.target.as_ref();
        match path {
            ["name"] => Some(self.0.name.as_str().into()),
            ["target", "digest"] => target.map(|target| target.digest.as_str().into()),
            ["target", "mediatype"] => target.map(|target| target.media_type.as_str().into()),
            ["labels", key @ ..] => filter::label(&self.0.labels, key),
            ["annotations", key @ ..] => target.and_then(|target| filter::label(&target.annotations, key)),
            _ => None,
        }
    }
}
