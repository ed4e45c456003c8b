//! Log lines: for people, or one JSON object a line for machines, with the ids of the trace they belong to.

use std::{fmt, io::IsTerminal as _};

use anyhow::Context as _;
use opentelemetry::trace::TraceContextExt as _;
use tracing::{Event, Level, Subscriber, dispatcher};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterFn, filter_fn},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{self, JsonFields, Writer},
    },
    registry::LookupSpan,
};

/// The target of what happens inside a span and belongs to its trace, but not into a log: pieces of a download.
pub const STEP: &str = "berth::step";

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Lines on standard error.
pub(crate) fn layer<S>(filter: &str, format: Format) -> anyhow::Result<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = EnvFilter::builder().parse(quiet_others(filter)).with_context(|| {
        format!("--log-level {filter:?}: write error, warn, info, debug or trace, or directives like warn,berth_fetcher=debug")
    })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    Ok(match format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).with_filter(filter).boxed(),
        Format::Json => {
            let traced = Traced(format::json().flatten_event(true).with_current_span(true));
            lines.fmt_fields(JsonFields::new()).event_format(traced).with_filter(filter).boxed()
        }
    })
}

/// Spans for traces: our own, down to information; what libraries do inside is not a stage of anything.
pub(crate) fn ours() -> FilterFn<fn(&tracing::Metadata<'_>) -> bool> {
    fn wanted(metadata: &tracing::Metadata<'_>) -> bool {
        let target = metadata.target();
        target == STEP || (*metadata.level() <= Level::INFO && target.starts_with("berth"))
    }
    filter_fn(wanted)
}

/// A bare level is meant for Berth; the libraries below speak up only from warnings on.
fn quiet_others(filter: &str) -> String {
    let bare = !filter.contains(['=', ',']);
    let chatty = ["h2", "hyper", "hyper_util", "reqwest", "rustls", "async_nats", "tower", "tonic", "opentelemetry"];
    match filter {
        "debug" | "trace" | "info" if bare => {
            chatty.iter().fold(filter.to_owned(), |text, library| format!("{text},{library}=warn"))
        }
        _ => filter.to_owned(),
    }
}

/// JSON lines that begin with the ids of trace and span, where there are any.
struct Traced(format::Format<format::Json>);

impl<S> FormatEvent<S, JsonFields> for Traced
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    JsonFields: for<'writer> FormatFields<'writer>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        let span = ctx.event_scope().and_then(|mut scope| scope.next()).map(|span| span.id());
        let context = span
            .and_then(|id| dispatcher::get_default(|dispatch| tracing_opentelemetry::get_otel_context(&id, dispatch)));
        let known =
            context.as_ref().map(|context| context.span().span_context().clone()).filter(|known| known.is_valid());
        match (known, line.strip_prefix('{')) {
            (Some(known), Some(rest)) => {
                write!(writer, "{{\"trace_id\":\"{}\",\"span_id\":\"{}\",{rest}", known.trace_id(), known.span_id())
            }
            _ => writer.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::quiet_others;

    #[test]
    fn a_bare_level_is_berths_own() {
        assert_eq!(quiet_others("error"), "error");
        assert!(quiet_others("debug").starts_with("debug,h2=warn"));
        assert_eq!(quiet_others("debug,h2=debug"), "debug,h2=debug");
    }
}
