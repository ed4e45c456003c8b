//! The calls of the contract.

use std::sync::Arc;

use async_trait::async_trait;
use berth_api::fetcher::Fetcher;
use berth_model::{Reference, Status};
use berth_wire::fetcher as msg;
use tracing::Instrument as _;

use crate::{access::Access, client::RegistryClient};

pub(crate) struct Service {
    pub(crate) client: Arc<RegistryClient>,
}

#[async_trait]
impl Fetcher for Service {
    async fn resolve(&self, request: msg::ResolveRequest) -> Result<msg::ResolveReply, Status> {
        let reference = reference(&request.reference)?;
        let access = request.access.as_ref().map(Access::from).unwrap_or_default();
        let span = tracing::info_span!("resolve", %reference);
        let target = self.client.resolve(&reference, &access).instrument(span).await?;
        Ok(msg::ResolveReply { target: Some((&target).into()) })
    }
}

/// Reads the reference of a request.
pub(crate) fn reference(text: &str) -> Result<Reference, Status> {
    text.parse().map_err(|error: berth_model::ReferenceError| Status::invalid_argument(error.to_string()))
}

impl From<&msg::Access> for Access {
    fn from(wire: &msg::Access) -> Self {
        Access::with_user(&wire.username, &wire.secret, wire.plain_http)
    }
}
