//! Traces through gRPC: a span for each request, part of whatever trace its client says; and the client's side of that.

use berth_telemetry::context;
use tonic::{Request, Status, metadata::MetadataValue, service::Interceptor};
use tracing::Span;

/// The span of a request.
pub(crate) fn span(request: &http::Request<()>) -> Span {
    let path = request.uri().path().trim_start_matches('/');
    let (service, method) = path.rsplit_once('/').unwrap_or(("", path));
    // Asked again and again by those who look whether we are there.
    if service.starts_with("grpc.") {
        return tracing::debug_span!("grpc", path);
    }
    let span = tracing::info_span!(
        parent: None,
        "grpc",
        otel.name = path,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method
    );
    context::adopt(&span, |name| request.headers().get(name).and_then(|value| value.to_str().ok()));
    span
}

/// Says, with each request, which span of ours it is for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traced;

impl Interceptor for Traced {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in context::outgoing(&Span::current()) {
            let (Ok(value), Some(name)) =
                (MetadataValue::try_from(value), context::HEADERS.iter().find(|known| **known == name))
            else {
                continue;
            };
            request.metadata_mut().insert(*name, value);
        }
        Ok(request)
    }
}
