//! Calls about leases.

use berth_model::Status;
use berth_wire::metadata as msg;

use crate::{
    check, leases, missing,
    page::Page,
    resource,
    store::Store,
    tables::{lease, lease_resource},
};

pub(super) async fn create(store: &Store, request: msg::CreateLeaseRequest) -> Result<msg::Lease, Status> {
    let namespace = check::namespace(&request.namespace)?;
    check::labels(&request.labels)?;
    let id = match request.id.as_str() {
        "" => uuid::Uuid::new_v4().simple().to_string(),
        id => check::name("the lease's id", id)?,
    };
    let (labels, seconds) = (request.labels, request.expires_in_seconds);
    store.change(move |change| leases::create(change, &namespace, id, labels, seconds)).await
}

pub(super) async fn delete(store: &Store, request: msg::DeleteLeaseRequest) -> Result<msg::DeleteLeaseReply, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let id = check::name("the lease's id", &request.id)?;
    store.change(move |change| leases::delete(change, &namespace, &id)).await?;
    Ok(msg::DeleteLeaseReply {})
}

pub(super) async fn add(
    store: &Store,
    request: msg::AddLeaseResourcesRequest,
) -> Result<msg::AddLeaseResourcesReply, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let id = check::name("the lease's id", &request.id)?;
    let more = request.resources.iter().map(resource::parse).collect::<Result<Vec<_>, _>>()?;
    store.change(move |change| leases::add(change, &namespace, &id, &more)).await?;
    Ok(msg::AddLeaseResourcesReply {})
}

pub(super) async fn get(store: &Store, request: msg::GetLeaseRequest) -> Result<msg::Lease, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let id = check::name("the lease's id", &request.id)?;
    store
        .read(move |view| {
            let found = lease::get(view, &namespace, &id)?.ok_or_else(|| missing::lease(&namespace, &id))?;
            Ok(msg::Lease { resources: lease_resource::of(view, &namespace, &id)?, ..found })
        })
        .await
}

pub(super) async fn renew(store: &Store, request: msg::RenewLeaseRequest) -> Result<msg::Lease, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let id = check::name("the lease's id", &request.id)?;
    if request.expires_in_seconds == 0 {
        return Err(Status::invalid_argument("a lease is renewed for at least a second"));
    }
    store.change(move |change| leases::renew(change, &namespace, &id, request.expires_in_seconds)).await
}

pub(super) async fn take_off(
    store: &Store,
    request: msg::DeleteLeaseResourcesRequest,
) -> Result<msg::DeleteLeaseResourcesReply, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let id = check::name("the lease's id", &request.id)?;
    let less = request.resources.iter().map(resource::parse).collect::<Result<Vec<_>, _>>()?;
    store.change(move |change| leases::take_off(change, &namespace, &id, &less)).await?;
    Ok(msg::DeleteLeaseResourcesReply {})
}

pub(super) async fn list(store: &Store, request: msg::ListLeasesRequest) -> Result<msg::ListLeasesReply, Status> {
    let namespace = check::namespace(&request.namespace)?;
    let (leases, more) = store
        .read(move |view| {
            let mut page = Page::new(request.limit);
            lease::fill(view, &namespace, &request.after, &mut page)?;
            Ok(page.finish())
        })
        .await?;
    Ok(msg::ListLeasesReply { leases, more })
}
