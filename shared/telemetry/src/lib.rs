//! Logs: what is written, where to, and in which form. Traces and metrics join here later.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::{EnvFilter, fmt};

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Starts logging to standard error. `filter` is a level (`info`) or directives (`warn,berth_fetcher=debug`).
pub fn start(filter: &str, format: Format) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(quiet_others(filter)).with_context(|| {
        format!("--log-level {filter:?}: write error, warn, info, debug or trace, or directives like warn,berth_fetcher=debug")
    })?;
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        Format::Text => lines.with_target(false).try_init(),
        Format::Json => lines.json().flatten_event(true).with_current_span(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging could not be started: {error}"))
}

/// A bare level is meant for Berth; the libraries below speak up only from warnings on.
fn quiet_others(filter: &str) -> String {
    let bare = !filter.contains(['=', ',']);
    let chatty = ["h2", "hyper", "hyper_util", "reqwest", "rustls", "async_nats", "tower", "tonic"];
    match filter {
        "debug" | "trace" | "info" if bare => {
            chatty.iter().fold(filter.to_owned(), |text, library| format!("{text},{library}=warn"))
        }
        _ => filter.to_owned(),
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
