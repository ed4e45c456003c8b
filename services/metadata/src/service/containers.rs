//! Calls about containers.

use berth_model::Status;
use berth_wire::metadata as msg;

use crate::{check, containers, missing, page::Page, store::Store, tables::container};

pub(super) async fn get(store: &Store, request: msg::GetContainerRequest) -> Result<msg::Container, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let id = check::name("the container's id", &request.id)?;
    store
        .read(move |view| container::get(view, &namespace, &id)?.ok_or_else(|| missing::container(&namespace, &id)))
        .await
}

pub(super) async fn list(
    store: &Store,
    request: msg::ListContainersRequest,
) -> Result<msg::ListContainersReply, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let (containers, more) = store
        .read(move |view| {
            let mut page = Page::new(request.limit);
            container::fill(view, &namespace, &request.after, &mut page)?;
            Ok(page.finish())
        })
        .await?;
    Ok(msg::ListContainersReply { containers, more })
}

pub(super) async fn create(store: &Store, request: msg::CreateContainerRequest) -> Result<msg::Container, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let given = containers::parse(request.container)?;
    store.change(move |change| containers::create(change, &namespace, given)).await
}

pub(super) async fn update(store: &Store, request: msg::UpdateContainerRequest) -> Result<msg::Container, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let given = containers::parse(request.container)?;
    store.change(move |change| containers::update(change, &namespace, given, &request.paths)).await
}

pub(super) async fn delete(
    store: &Store,
    request: msg::DeleteContainerRequest,
) -> Result<msg::DeleteContainerReply, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let id = check::name("the container's id", &request.id)?;
    store.change(move |change| containers::delete(change, &namespace, &id)).await?;
    Ok(msg::DeleteContainerReply {})
}
