//! What downloads took of registries, and what registries did to them.

use std::sync::LazyLock;

use berth_telemetry::{
    account,
    metrics::{Few, counter, label, meter},
};
use http::HeaderMap;
use opentelemetry::metrics::{Counter, Gauge};

/// Registries that are named in numbers; more are "other".
const REGISTRIES: usize = 32;

static BYTES: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("berth.fetch", "By", "Bytes of blobs that were wanted, by where they came from"));
static RETRIES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter("berth.registry.retries", "{request}", "Requests to registries that were sent again, by cause")
});
static BUDGET: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    meter()
        .u64_gauge("berth.registry.budget")
        .with_unit("{request}")
        .with_description("Requests that a registry still allows, as it said last")
        .build()
});
static NAMES: LazyLock<Few> = LazyLock::new(|| Few::new(REGISTRIES));

/// Where the bytes of a blob came from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// From its registry.
    Registry,
    /// They were there.
    Present,
    /// Another download brought them.
    Flight,
}

pub(crate) fn bytes(source: Source, bytes: u64) {
    let word = match source {
        Source::Registry => "registry",
        Source::Present => "present",
        Source::Flight => "another flight",
    };
    BYTES.add(bytes, &[label("source", word)]);
}

/// `cause`: one of our words. `host` had to be asked again.
pub(crate) fn retry(cause: &'static str, host: &str) {
    account::counted(cause, host);
    RETRIES.add(1, &[label("cause", cause)]);
}

/// Takes down what the registry says of its limits: `RateLimit-Remaining: 76;w=21600` (as Docker Hub does).
pub(crate) fn budget(host: &str, headers: &HeaderMap) {
    let said = headers.get("ratelimit-remaining").and_then(|value| value.to_str().ok());
    if let Some(left) = said.and_then(remaining) {
        BUDGET.record(left, &[label("registry", NAMES.name(host))]);
    }
}

fn remaining(said: &str) -> Option<u64> {
    said.split(';').next()?.trim().parse().ok()
}

/// The status code of an answer that passes, as a cause.
pub(crate) fn cause(status: u16) -> &'static str {
    match status {
        408 => "408",
        425 => "425",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use super::remaining;

    #[test]
    fn what_registries_say_of_their_limits() {
        for (said, left) in
            [("76;w=21600", Some(76)), ("100", Some(100)), (" 0 ; w=60", Some(0)), ("many", None), ("", None)]
        {
            assert_eq!(remaining(said), left, "{said}");
        }
    }
}
