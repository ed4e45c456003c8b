//! Calls about namespaces.

use berth_model::Status;
use berth_wire::metadata as msg;

use crate::{check, namespaces, page::Page, store::Store, tables::namespace};

pub(super) async fn list(
    store: &Store,
    request: msg::ListNamespacesRequest,
) -> Result<msg::ListNamespacesReply, Status> {
    let (namespaces, more) = store
        .read(move |view| {
            let mut page = Page::new(request.limit);
            namespace::fill(view, &request.after, &mut page)?;
            Ok(page.finish())
        })
        .await?;
    Ok(msg::ListNamespacesReply { namespaces, more })
}

pub(super) async fn get(store: &Store, request: msg::GetNamespaceRequest) -> Result<msg::Namespace, Status> {
    let name = check::namespace(&request.name)?;
    store.read(move |view| namespaces::get(view, &name)).await
}

pub(super) async fn create(store: &Store, request: msg::CreateNamespaceRequest) -> Result<msg::Namespace, Status> {
    let name = check::namespace(&request.name)?;
    check::labels(&request.labels)?;
    store.change(move |change| namespaces::create(change, &name, &request.labels)).await
}

pub(super) async fn update(store: &Store, request: msg::UpdateNamespaceRequest) -> Result<msg::Namespace, Status> {
    let name = check::namespace(&request.name)?;
    store.change(move |change| namespaces::update(change, &name, &request.labels, &request.paths)).await
}

pub(super) async fn delete(
    store: &Store,
    request: msg::DeleteNamespaceRequest,
) -> Result<msg::DeleteNamespaceReply, Status> {
    let name = check::namespace(&request.name)?;
    store.change(move |change| namespaces::delete(change, &name)).await?;
    Ok(msg::DeleteNamespaceReply {})
}
