//! The one place that says which spans the bus makes, which headers leave with a message, and what they mean to a span.
//!
//! Every call and job passes through here on both sides. Names and attributes follow OpenTelemetry's conventions for RPC and
//! messaging; NATS has none of its own. Chatter (long polls, reports of progress: many a second, and no stage of anything)
//! gets spans at the level of debugging, which no trace holds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_telemetry::{context, wait};
use tracing::Span;
use tracing::field::Empty;

use crate::frame;

/// Header names and values that ride with a message.
pub(crate) type Headers = Vec<(String, String)>;

/// Methods of which a pull makes so many that they would hide the rest.
const CHATTER: [&str; 4] = ["Watch", "Advance", "Read", "ListGarbage"];

/// Waits shorter than this are nobody's complaint.
const WORTH_TELLING: Duration = Duration::from_millis(2);

fn is_chatter(subject: &str) -> bool {
    let method = subject.rsplit('.').next().unwrap_or(subject);
    CHATTER.iter().any(|word| method.starts_with(word))
}

/// Of a call, at its caller.
pub(crate) fn calling(subject: &'static str, remote: bool) -> Span {
    let system = system(remote);
    if is_chatter(subject) {
        return tracing::debug_span!("bus.call", subject, code = Empty);
    }
    tracing::info_span!(
        "bus.call",
        otel.name = subject,
        otel.kind = "client",
        rpc.system = system,
        subject,
        code = Empty
    )
}

/// Of a call, where it is handled.
pub(crate) fn serving(subject: &'static str, headers: &Headers) -> Span {
    let span = if is_chatter(subject) {
        tracing::debug_span!(parent: None, "bus.serve", subject, code = Empty)
    } else {
        tracing::info_span!(parent: None, "bus.serve", otel.name = subject, otel.kind = "server", subject, code = Empty)
    };
    adopt(&span, headers);
    span
}

/// Of a job that is handed in.
pub(crate) fn submitting(kind: &'static str, remote: bool) -> Span {
    tracing::info_span!(
        "bus.submit",
        otel.name = format_args!("send {kind}"),
        otel.kind = "producer",
        messaging.system = system(remote),
        messaging.destination.name = kind,
        messaging.operation.type = "send",
        kind
    )
}

/// Of one attempt at a job; and of the time that it lay in its queue.
pub(crate) fn attempting(kind: &'static str, id: &str, attempt: u32, headers: &Headers) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "bus.job",
        otel.name = format_args!("process {kind}"),
        otel.kind = "consumer",
        messaging.destination.name = kind,
        messaging.operation.type = "process",
        messaging.message.id = id,
        kind,
        id,
        attempt,
        code = Empty
    );
    adopt(&span, headers);
    if attempt == 1
        && let Some(since) = header(headers, frame::SUBMITTED).and_then(moment)
    {
        wait::past(&span, "queue", since, WORTH_TELLING);
    }
    span
}

/// The headers that make the receiver's span a child of `span`.
pub(crate) fn outgoing(span: &Span) -> Headers {
    context::outgoing(span)
}

/// The same for a job, with the moment from which on it waits.
pub(crate) fn outgoing_job(span: &Span) -> Headers {
    let mut headers = context::outgoing(span);
    if !headers.is_empty() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        headers.push((frame::SUBMITTED.to_owned(), now.as_micros().to_string()));
    }
    headers
}

/// The W3C trace context of the span that is entered now, for whoever keeps it; none if nobody traces.
#[must_use]
pub fn traceparent() -> Option<String> {
    outgoing(&Span::current()).into_iter().find(|(name, _)| name == "traceparent").map(|(_, value)| value)
}

fn adopt(span: &Span, headers: &Headers) {
    context::adopt(span, |name| header(headers, name));
}

fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn moment(text: &str) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_micros(text.parse().ok()?))
}

fn system(remote: bool) -> &'static str {
    if remote { "nats" } else { "in_process" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatter_is_told_by_its_method() {
        for (subject, expected) in [
            ("content.v1.WatchBlob", true),
            ("content.v1.AdvanceIngest", true),
            ("metadata.v1.ReadEvents", true),
            ("content.v1.CommitIngest", false),
            ("metadata.v1.PutImage", false),
        ] {
            assert_eq!(is_chatter(subject), expected, "{subject}");
        }
    }
}
