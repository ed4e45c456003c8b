//! The context of a trace on its way from one process, or one thread of work, to the next: the headers of W3C Trace
//! Context (`traceparent`, `tracestate`; lower-case, as NATS does not fold names).

use std::collections::{HashMap, HashSet};

use opentelemetry::{
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::TraceContextExt as _,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The headers that are read and written here.
pub const HEADERS: [&str; 2] = ["traceparent", "tracestate"];

/// The headers that make a receiver's span a child of `span`; none if there is no trace.
#[must_use]
pub fn outgoing(span: &Span) -> Vec<(String, String)> {
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return Vec::new();
    }
    let mut headers = Given::default();
    TraceContextPropagator::new().inject_context(&context, &mut headers);
    headers.0.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// Makes `span` a child of whatever the headers name. To be called before anything happens in it.
pub fn adopt<'a>(span: &Span, header: impl Fn(&'static str) -> Option<&'a str>) {
    let Some(context) = read(header) else { return };
    // Fails where there are no traces, or nobody sees this span.
    drop(span.set_parent(context));
}

/// Ties `span` to another trace, of which it is no part.
pub fn link<'a>(span: &Span, header: impl Fn(&'static str) -> Option<&'a str>) {
    if let Some(context) = read(header) {
        span.add_link(context.span().span_context().clone());
    }
}

/// A span is tied to at most so many others.
pub const MOST_LINKS: usize = 32;

/// Ties `span` to the traces that these values of `traceparent` are of, to each once; to the first [`MOST_LINKS`] of them.
pub fn link_all<'a>(span: &Span, parents: impl IntoIterator<Item = &'a str>) {
    let mut tied = HashSet::new();
    for parent in parents {
        if tied.len() >= MOST_LINKS {
            return;
        }
        let Some(context) = read(|name| (name == HEADERS[0]).then_some(parent)) else { continue };
        let other = context.span().span_context().clone();
        if tied.insert(other.trace_id()) {
            span.add_link(other);
        }
    }
}

/// Ties `span` to another one of this process, of which it is no part.
pub fn link_span(span: &Span, other: &Span) {
    let context = other.context();
    if context.span().span_context().is_valid() {
        span.add_link(context.span().span_context().clone());
    }
}

/// The id of the trace that a span is part of.
#[must_use]
pub fn trace_id(span: &Span) -> Option<String> {
    let context = span.context();
    let known = context.span().span_context().clone();
    known.is_valid().then(|| known.trace_id().to_string())
}

fn read<'a>(header: impl Fn(&'static str) -> Option<&'a str>) -> Option<opentelemetry::Context> {
    let parent = header(HEADERS[0])?;
    let mut given = Given::default();
    given.0.insert(HEADERS[0].to_owned(), parent.to_owned());
    if let Some(state) = header(HEADERS[1]) {
        given.0.insert(HEADERS[1].to_owned(), state.to_owned());
    }
    let context = TraceContextPropagator::new().extract_with_context(&opentelemetry::Context::new(), &given);
    context.span().span_context().is_valid().then_some(context)
}

#[derive(Default)]
struct Given(HashMap<String, String>);

impl Injector for Given {
    fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }
}

impl Extractor for Given {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn traced(test: impl FnOnce()) {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), test);
    }

    fn given(parent: &'static str) -> impl Fn(&'static str) -> Option<&'static str> {
        move |name| (name == "traceparent").then_some(parent)
    }

    #[test]
    fn a_span_passes_on_the_trace_that_it_was_given() {
        traced(|| {
            let span = tracing::info_span!("work");
            adopt(&span, given(PARENT));
            let headers = outgoing(&span);
            assert_eq!(headers.len(), 1, "an empty tracestate is not sent: {headers:?}");
            assert!(headers[0].1.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{headers:?}");
            assert!(!headers[0].1.contains("b7ad6b7169203331"), "its own id, not its parent's");
            assert_eq!(trace_id(&span).as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        });
    }

    #[test]
    fn what_is_no_context_counts_as_none() {
        traced(|| {
            for wrong in ["", "00-0-0-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "ü"] {
                let span = tracing::info_span!("work");
                adopt(&span, given(wrong));
                assert_ne!(trace_id(&span), None, "{wrong:?}: a trace of its own");
                assert_ne!(trace_id(&span).as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
            }
        });
    }

    #[test]
    fn without_traces_nothing_is_sent() {
        let span = tracing::info_span!("work");
        adopt(&span, given(PARENT));
        assert_eq!(outgoing(&span), []);
    }
}
