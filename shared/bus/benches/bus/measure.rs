//! Measures something that is done again and again: how long one takes, and how many fit into a second.

use std::future::Future;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

/// For the table.
pub(crate) struct Figures {
    pub(crate) median: String,
    pub(crate) worst: String,
    pub(crate) a_second: String,
}

impl Figures {
    pub(crate) fn new(mut latencies: Vec<Duration>, a_second: f64) -> Self {
        latencies.sort();
        let at = |percent: usize| latencies.get(latencies.len() * percent / 100).copied().unwrap_or_default();
        let shown = |time: Duration| format!("{:.0} µs", time.as_secs_f64() * 1e6);
        Self { median: shown(at(50)), worst: shown(at(99)), a_second: format!("{a_second:.0}") }
    }
}

/// How long each took.
pub(crate) async fn one_by_one<F: Future<Output = ()>>(time: Duration, one: impl Fn() -> F) -> Vec<Duration> {
    let (begun, mut taken) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        let since = Instant::now();
        one().await;
        taken.push(since.elapsed());
    }
    taken
}

/// How many ended in a second, with so many under way.
pub(crate) async fn at_once<F>(time: Duration, count: usize, one: impl Fn() -> F) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let begun = Instant::now();
    let mut running: FuturesUnordered<_> = (0..count).map(|_| tokio::spawn(one())).collect();
    let mut ended = 0_u32;
    while let Some(done) = running.next().await {
        done.unwrap();
        ended += 1;
        if begun.elapsed() < time {
            running.push(tokio::spawn(one()));
        }
    }
    f64::from(ended) / begun.elapsed().as_secs_f64()
}
