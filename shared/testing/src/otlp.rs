//! A receiver of OpenTelemetry's spans, over HTTP and gRPC on one port, that keeps what it is sent and can be asked for the
//! tree of a trace.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Response, StatusCode},
    routing::post,
};
use bytes::{Bytes, BytesMut};
use http_body_util::StreamBody;
use hyper::body::Frame;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value},
    trace::v1 as proto,
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::wait::{Seen, wait_for};

/// A finished span, as far as tests ask for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Of the trace.
    pub trace: String,
    /// Its own.
    pub id: String,
    /// Of the span it is part of; empty if there is none, or it is elsewhere.
    pub parent: String,
    /// What was done.
    pub name: String,
    /// `server`, `client`, `producer`, `consumer` or `internal`.
    pub kind: &'static str,
    /// `service.name` of the process.
    pub service: String,
    /// In nanoseconds since 1970.
    pub start: u64,
    /// In nanoseconds since 1970.
    pub end: u64,
    /// As text.
    pub attributes: BTreeMap<String, String>,
    /// Names of what happened in it.
    pub events: Vec<String>,
    /// Traces it is tied to.
    pub links: Vec<String>,
}

type Spans = Arc<Mutex<Vec<Span>>>;

/// The running receiver; it ends when this is dropped.
#[derive(Debug)]
pub struct OtlpReceiver {
    port: u16,
    spans: Spans,
    task: JoinHandle<()>,
}

impl Drop for OtlpReceiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OtlpReceiver {
    /// On a free port of this machine.
    pub async fn start() -> Result<Self> {
        let spans = Spans::default();
        let routes = Router::new()
            .route("/v1/traces", post(over_http))
            .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", post(over_grpc))
            .with_state(Arc::clone(&spans));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            // It serves until it is aborted.
            drop(axum::serve(listener, routes).await);
        });
        Ok(Self { port, spans, task })
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is set to.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All that came so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        lock(&self.spans).clone()
    }

    /// All spans, when they are what `wanted` waits for.
    ///
    /// # Panics
    ///
    /// If they never are.
    pub fn all(&self, what: &str, wanted: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        wait_for(what, Duration::from_secs(30), || {
            let found = self.spans();
            if wanted(&found) { Seen::Yes(found) } else { Seen::NotYet(tree(&found)) }
        })
    }

    /// The spans of a trace, when they are what `wanted` waits for. (Spans come when they end, and in batches.)
    ///
    /// # Panics
    ///
    /// If they never are.
    pub fn trace(&self, trace: &str, wanted: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        wait_for("the spans of a trace", Duration::from_secs(30), || {
            let found: Vec<Span> = self.spans().into_iter().filter(|span| span.trace == trace).collect();
            if wanted(&found) { Seen::Yes(found) } else { Seen::NotYet(tree(&found)) }
        })
    }
}

/// Spans as a tree of names, for people and for assertions that fail.
#[must_use]
pub fn tree(spans: &[Span]) -> String {
    let known = |id: &str| spans.iter().any(|span| span.id == id);
    let mut text = String::new();
    let mut roots: Vec<&Span> = spans.iter().filter(|span| !known(&span.parent)).collect();
    roots.sort_by_key(|span| span.start);
    for root in roots {
        branch(spans, root, 0, &mut text);
    }
    text
}

fn branch(spans: &[Span], span: &Span, depth: usize, text: &mut String) {
    let took = Duration::from_nanos(span.end.saturating_sub(span.start));
    let written = writeln!(text, "{:indent$}{} ({}, {took:?})", "", span.name, span.service, indent = depth * 2);
    debug_assert!(written.is_ok(), "a string takes anything");
    let mut below: Vec<&Span> = spans.iter().filter(|other| other.parent == span.id).collect();
    below.sort_by_key(|span| span.start);
    for one in below {
        branch(spans, one, depth + 1, text);
    }
}

async fn over_http(State(spans): State<Spans>, headers: HeaderMap, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    let protobuf = headers.get("content-type").is_some_and(|kind| kind == "application/x-protobuf");
    if !protobuf {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let request = ExportTraceServiceRequest::decode(body).map_err(|_damaged| StatusCode::BAD_REQUEST)?;
    keep(&spans, request);
    Ok(ExportTraceServiceResponse::default().encode_to_vec())
}

/// One message each way, each behind five bytes: not compressed, and its length.
async fn over_grpc(State(spans): State<Spans>, body: Bytes) -> Response<Body> {
    let code = match body.get(5..).map(ExportTraceServiceRequest::decode) {
        Some(Ok(request)) if body.first() == Some(&0) => {
            keep(&spans, request);
            "0"
        }
        _ => "3",
    };
    let mut answer = BytesMut::zeroed(5);
    ExportTraceServiceResponse::default().encode(&mut answer).unwrap_or_default();
    let mut end = HeaderMap::new();
    end.insert("grpc-status", HeaderValue::from_static(code));
    let frames = [Ok::<_, std::io::Error>(Frame::data(answer.freeze())), Ok(Frame::trailers(end))];
    let mut response = Response::new(Body::new(StreamBody::new(futures::stream::iter(frames))));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn keep(spans: &Spans, request: ExportTraceServiceRequest) {
    for of_resource in request.resource_spans {
        let resource = texts(of_resource.resource.unwrap_or_default().attributes);
        let service = resource.get("service.name").cloned().unwrap_or_default();
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            lock(spans).push(read(span, &service));
        }
    }
}

fn read(span: proto::Span, service: &str) -> Span {
    Span {
        kind: match span.kind() {
            proto::span::SpanKind::Server => "server",
            proto::span::SpanKind::Client => "client",
            proto::span::SpanKind::Producer => "producer",
            proto::span::SpanKind::Consumer => "consumer",
            proto::span::SpanKind::Internal | proto::span::SpanKind::Unspecified => "internal",
        },
        trace: hex::encode(span.trace_id),
        id: hex::encode(span.span_id),
        parent: hex::encode(span.parent_span_id),
        name: span.name,
        service: service.to_owned(),
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: texts(span.attributes),
        events: span.events.into_iter().map(|event| event.name).collect(),
        links: span.links.into_iter().map(|link| hex::encode(link.trace_id)).collect(),
    }
}

fn texts(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value| match value {
        Value::StringValue(text) => text,
        Value::BoolValue(value) => value.to_string(),
        Value::IntValue(value) => value.to_string(),
        Value::DoubleValue(value) => value.to_string(),
        other => format!("{other:?}"),
    };
    let value = |pair: KeyValue| (pair.key, pair.value.and_then(|value| value.value).map(text).unwrap_or_default());
    pairs.into_iter().map(value).collect()
}

fn lock(spans: &Spans) -> MutexGuard<'_, Vec<Span>> {
    spans.lock().unwrap_or_else(PoisonError::into_inner)
}
