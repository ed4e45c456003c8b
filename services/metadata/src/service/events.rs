//! Calls about namespaces and events.

use std::time::Duration;

use berth_model::Status;
use berth_wire::metadata as msg;

use super::LONGEST_WAIT;
use crate::{store::Store, tables::namespace};

pub(super) async fn namespaces(store: &Store) -> Result<msg::ListNamespacesReply, Status> {
    let namespaces = store.read(|view| namespace::all(view)).await?;
    Ok(msg::ListNamespacesReply { namespaces })
}

pub(super) async fn read(store: &Store, request: msg::ReadEventsRequest) -> Result<msg::ReadEventsReply, Status> {
    let wait = Duration::from_millis(request.wait_ms.into()).min(LONGEST_WAIT);
    store.events_after(request.after, request.limit, wait).await
}
