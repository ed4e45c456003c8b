//! The page's JSON: one answer for one question.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use berth_model::{Code, Status};
use berth_wire::{
    gc::MeasureDiskRequest,
    metadata::{ListImagesRequest, ListNamespacesRequest},
    transfer::{ListPullsRequest, WatchPullRequest},
};
use serde_json::{Value, json};

use super::shapes;
use crate::{Backend, pull_shape};

/// As much of a list as anybody looks at.
const MOST: usize = 1000;

/// An error as JSON, with the status of HTTP that is nearest.
pub(super) struct Failed(Status);

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = match self.0.code {
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
            Code::FailedPrecondition | Code::Aborted | Code::AlreadyExists => StatusCode::CONFLICT,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(json!({ "error": { "code": self.0.code, "message": self.0.message } }))).into_response()
    }
}

type Answer = Result<Json<Value>, Failed>;

/// Of which namespace; all of them if none is said.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Of {
    #[serde(default)]
    pub(super) namespace: String,
}

pub(super) async fn server(State(backend): State<Backend>) -> Json<Value> {
    let info = &backend.info;
    Json(json!({ "version": info.version, "revision": info.revision, "root": info.root }))
}

pub(super) async fn pulls(State(backend): State<Backend>, Query(of): Query<Of>) -> Answer {
    let mut request = ListPullsRequest { namespace: of.namespace, all: true, ..ListPullsRequest::default() };
    let mut all = Vec::new();
    loop {
        let page = backend.transfer.list_pulls(request.clone()).await?;
        let last = page.pulls.last().and_then(|pull| pull.record.as_ref()).map(|record| record.id.clone());
        all.extend(page.pulls);
        match last {
            Some(last) if page.more && all.len() < MOST => request.after = last,
            _ => break,
        }
    }
    all.sort_by_key(|pull| pull.age_ms);
    Ok(Json(json!({ "pulls": all.iter().map(shapes::pull).collect::<Vec<_>>() })))
}

pub(super) async fn pull(State(backend): State<Backend>, Path(pull_id): Path<String>) -> Answer {
    let request = WatchPullRequest { pull_id, ..WatchPullRequest::default() };
    Ok(Json(pull_shape::pull(&backend.transfer.watch_pull(request).await?)))
}

pub(super) async fn images(State(backend): State<Backend>, Query(of): Query<Of>) -> Answer {
    let namespaces = if of.namespace.is_empty() { namespaces(&backend).await? } else { vec![of.namespace] };
    let mut all = Vec::new();
    for namespace in namespaces {
        let mut request = ListImagesRequest { namespace: namespace.clone(), ..ListImagesRequest::default() };
        loop {
            let page = backend.metadata.list_images(request.clone()).await?;
            all.extend(page.images.iter().map(|image| shapes::image(&namespace, image)));
            match page.images.last() {
                Some(last) if page.more && all.len() < MOST => request.after.clone_from(&last.name),
                _ => break,
            }
        }
    }
    Ok(Json(json!({ "images": all })))
}

async fn namespaces(backend: &Backend) -> Result<Vec<String>, Status> {
    let mut request = ListNamespacesRequest::default();
    let mut all = Vec::new();
    loop {
        let page = backend.metadata.list_namespaces(request.clone()).await?;
        all.extend(page.namespaces.into_iter().map(|namespace| namespace.name));
        match all.last() {
            Some(last) if page.more && all.len() < MOST => request.after.clone_from(last),
            _ => return Ok(all),
        }
    }
}

pub(super) async fn disk(State(backend): State<Backend>) -> Answer {
    let disk = backend.gc.measure_disk(MeasureDiskRequest::default()).await?;
    Ok(Json(json!({
        "blobs": shapes::measure(disk.blobs),
        "ingests": shapes::measure(disk.ingests),
        "snapshots": shapes::measure(disk.snapshots),
        "other": shapes::measure(disk.other),
    })))
}
