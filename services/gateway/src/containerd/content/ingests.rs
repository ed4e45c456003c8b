//! Ingests as containerd's clients see them: each namespace its own. The content service has one list of refs for all;
//! those of a namespace begin with its name and a slash, which no name of a namespace holds.

use std::borrow::Cow;

use berth_model::{
    Status,
    filter::{Fields, Filters},
};
use berth_wire::{containerd::content as api, content as msg};
use tonic::Request;

use super::{Scope, plugin, signed, timestamp};
use crate::{Backend, containerd::pages};

/// The ref of a namespace's ingest at the content service.
pub(super) fn global(namespace: &str, reference: &str) -> String {
    format!("{namespace}/{reference}")
}

/// An error of the content service, as the client knows the ref.
pub(super) fn local(namespace: &str, status: Status) -> Status {
    Status { message: status.message.replace(&format!("ingest {namespace}/"), "ingest "), ..status }
}

pub(super) async fn status(
    backend: &Backend,
    request: Request<api::StatusRequest>,
) -> Result<api::StatusResponse, Status> {
    let asked = Scope::of(&request);
    let reference = named(&request.into_inner().r#ref)?;
    let namespace = plugin::scope_of_ref(asked, &reference)?.namespace;
    let found = stat(backend, &namespace, &reference).await?;
    Ok(api::StatusResponse { status: Some(to_status(&namespace, found)) })
}

/// An ingest of the namespace.
pub(super) async fn stat(backend: &Backend, namespace: &str, reference: &str) -> Result<msg::Ingest, Status> {
    let stat = msg::StatIngestRequest { r#ref: global(namespace, reference) };
    backend.content.stat_ingest(stat).await.map_err(|status| local(namespace, status))
}

pub(super) async fn list(
    backend: &Backend,
    request: Request<api::ListStatusesRequest>,
) -> Result<api::ListStatusesResponse, Status> {
    let namespace = plugin::scope_of(backend, &request).await?.namespace;
    let filters = Filters::parse(&request.into_inner().filters)?;
    let statuses = all(backend, &namespace).await?.into_iter().filter(|status| filters.matches(&Record(status)));
    Ok(api::ListStatusesResponse { statuses: statuses.collect() })
}

/// All ingests of a namespace.
async fn all(backend: &Backend, namespace: &str) -> Result<Vec<api::Status>, Status> {
    let prefix = global(namespace, "");
    let fetch = |after: String| {
        let prefix = &prefix;
        async move {
            let after = if after.is_empty() { prefix.clone() } else { after };
            let page = backend.content.list_ingests(msg::ListIngestsRequest { after, limit: 0 }).await?;
            // They are in order: behind the last of this namespace there is nothing to look for.
            let more = page.more && page.ingests.last().is_some_and(|last| last.r#ref.starts_with(prefix));
            Ok((page.ingests, more))
        }
    };
    let found = pages::all(fetch, |ingest| ingest.r#ref.clone(), |ingest| ingest.r#ref.starts_with(&prefix)).await?;
    Ok(found.into_iter().map(|ingest| to_status(namespace, ingest)).collect())
}

pub(super) async fn abort(backend: &Backend, request: Request<api::AbortRequest>) -> Result<(), Status> {
    let asked = Scope::of(&request);
    let reference = named(&request.into_inner().r#ref)?;
    let scope = plugin::scope_of_ref(asked, &reference)?;
    drop_one(backend, &scope.namespace, &reference).await?;
    scope.let_go(backend, "ingests", &reference).await;
    Ok(())
}

/// Drops an ingest and its bytes. NOT_FOUND.
pub(super) async fn drop_one(backend: &Backend, namespace: &str, reference: &str) -> Result<(), Status> {
    let abort = msg::AbortIngestRequest { r#ref: global(namespace, reference), untouched_since: None };
    backend.content.abort_ingest(abort).await.map_err(|status| local(namespace, status))?;
    Ok(())
}

/// Drops an ingest that may have gone already.
pub(super) async fn drop_if_there(backend: &Backend, namespace: &str, reference: &str) -> Result<(), Status> {
    match drop_one(backend, namespace, reference).await {
        Err(status) if status.code != berth_model::Code::NotFound => Err(status),
        _ => Ok(()),
    }
}

/// Drops what is still being written in a namespace that ended.
pub(crate) async fn drop_all(backend: &Backend, namespace: &str) -> Result<(), Status> {
    for ingest in all(backend, namespace).await? {
        drop_if_there(backend, namespace, &ingest.r#ref).await?;
    }
    Ok(())
}

/// A ref that is not empty.
fn named(reference: &str) -> Result<String, Status> {
    if reference.is_empty() {
        return Err(Status::invalid_argument("the ref of the ingest must not be empty"));
    }
    Ok(reference.to_owned())
}

fn to_status(namespace: &str, ingest: msg::Ingest) -> api::Status {
    let reference = ingest.r#ref.strip_prefix(&global(namespace, "")).map(str::to_owned);
    api::Status {
        started_at: timestamp(ingest.started_at),
        updated_at: timestamp(ingest.updated_at),
        r#ref: reference.unwrap_or(ingest.r#ref),
        offset: signed(ingest.offset),
        total: signed(ingest.total),
        expected: ingest.expected,
    }
}

struct Record<'a>(&'a api::Status);

impl Fields for Record<'_> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["ref"] => Some(self.0.r#ref.as_str().into()),
            _ => None,
        }
    }
}
