//! Calls about images.

use berth_model::Status;
use berth_wire::metadata as msg;

use crate::{check, images, leases, missing, page::Page, store::Store, tables::image};

pub(super) async fn get(store: &Store, request: msg::GetImageRequest) -> Result<msg::Image, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let name = check::name("the image's name", &request.name)?;
    store.read(move |view| image::get(view, &namespace, &name)?.ok_or_else(|| missing::image(&namespace, &name))).await
}

pub(super) async fn list(store: &Store, request: msg::ListImagesRequest) -> Result<msg::ListImagesReply, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let ((images, more), sequence) = store
        .read_at(move |view| {
            let mut page = Page::new(request.limit);
            image::fill(view, &namespace, &request.after, &mut page)?;
            Ok(page.finish())
        })
        .await?;
    Ok(msg::ListImagesReply { images, more, sequence })
}

pub(super) async fn put(store: &Store, request: msg::PutImageRequest) -> Result<msg::Image, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let lease = request.lease.clone();
    let put = images::Put::parse(request)?;
    store
        .change(move |change| {
            leases::must_run(change, &namespace, &lease)?;
            images::put(change, &namespace, put)
        })
        .await
}

pub(super) async fn update(store: &Store, request: msg::UpdateImageRequest) -> Result<msg::Image, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let given = request.image.ok_or_else(|| Status::invalid_argument("image is missing in the request"))?;
    check::name("the image's name", &given.name)?;
    store.change(move |change| images::update(change, &namespace, given, &request.paths, request.at)).await
}

pub(super) async fn delete(store: &Store, request: msg::DeleteImageRequest) -> Result<msg::DeleteImageReply, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let name = check::name("the image's name", &request.name)?;
    let target = match request.target.as_str() {
        "" => None,
        digest => Some(check::digest(digest)?.to_string()),
    };
    store.change(move |change| images::delete(change, &namespace, &name, target.as_deref())).await?;
    Ok(msg::DeleteImageReply {})
}
