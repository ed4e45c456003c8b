//! The seam for trace context: the one place that says which headers leave with a message and what they mean to a span.
//!
//! Every call and job passes through here on both sides. W3C `traceparent` (lower-case: NATS header names are
//! case-sensitive) joins by filling in the two functions; nothing else needs to know.

use tracing::Span;

/// Header names and values that ride with a message.
pub(crate) type Headers = Vec<(String, String)>;

/// The headers that make the receiver's span a child of `span`.
pub(crate) fn outgoing(_span: &Span) -> Headers {
    Headers::new()
}

/// Makes `span` a child of whatever `headers` name.
pub(crate) fn adopt(_span: &Span, _headers: &Headers) {}

/// The W3C trace context of the span that is entered now, for whoever keeps it; none if nobody traces.
#[must_use]
pub fn traceparent() -> Option<String> {
    outgoing(&Span::current()).into_iter().find(|(name, _)| name == "traceparent").map(|(_, value)| value)
}
