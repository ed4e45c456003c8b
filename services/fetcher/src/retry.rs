//! Whether to try again, and when: the rule for every request, without any I/O.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant, SystemTime},
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};

use crate::options::ClientOptions;

/// The tries of one request: how many are left, and the pause before the next.
#[derive(Debug)]
pub(crate) struct Tries {
    /// Tries begun, the first included.
    begun: usize,
    limit: usize,
    pauses: ExponentialBackoff,
}

impl Tries {
    /// All tries after the first one.
    pub(crate) fn new(options: &ClientOptions) -> Self {
        Self::starting(options, options.backoff_min)
    }

    /// As [`Tries::new`], for a server that asked for less.
    pub(crate) fn throttled(options: &ClientOptions) -> Self {
        Self::starting(options, options.throttled_min)
    }

    fn starting(options: &ClientOptions, first: Duration) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(options.backoff_max.max(first))
            .without_max_times()
            .with_jitter()
            .build();
        Self { begun: 1, limit: options.attempts, pauses }
    }

    /// The pause before the next try, or `None` when there is none left.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        if self.begun >= self.limit {
            return None;
        }
        self.begun += 1;
        self.pauses.next()
    }

    /// At most so many tries, those before counted.
    pub(crate) fn in_all(&mut self, limit: usize) {
        self.limit = self.limit.min(limit);
    }
}

/// What an answer's status means for trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Not a matter of time: good, or refused for good.
    Settled,
    /// Passing: a pause of our own.
    Again,
    /// 429: the registry wants less.
    Throttled,
}

pub(crate) fn judge(status: StatusCode) -> Judgement {
    match status.as_u16() {
        429 => Judgement::Throttled,
        // 501 and 505 say that it will never work; the others of the row pass.
        408 | 425 | 500 | 502 | 503 | 504 | 506..=599 => Judgement::Again,
        _ => Judgement::Settled,
    }
}

/// `Retry-After`: seconds or an HTTP date (RFC 9110, 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// Hosts that asked for a pause; all requests to them wait, not only the one that was told.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<HashMap<String, Instant>>);

impl Pace {
    /// Nobody asks this host before `until`.
    pub(crate) fn hold(&self, host: &str, until: Instant) {
        let mut held = self.lock();
        let now = Instant::now();
        held.retain(|_, until| *until > now);
        let entry = held.entry(host.to_owned()).or_insert(until);
        *entry = (*entry).max(until);
    }

    /// How long to wait before asking this host.
    pub(crate) fn pause(&self, host: &str) -> Option<Duration> {
        let until = self.lock().get(host).copied()?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        for (status, judgement) in [
            (200, Judgement::Settled),
            (206, Judgement::Settled),
            (401, Judgement::Settled),
            (404, Judgement::Settled),
            (408, Judgement::Again),
            (425, Judgement::Again),
            (429, Judgement::Throttled),
            (500, Judgement::Again),
            (501, Judgement::Settled),
            (503, Judgement::Again),
            (521, Judgement::Again),
        ] {
            assert_eq!(judge(StatusCode::from_u16(status).unwrap()), judgement, "{status}");
        }
    }

    #[test]
    fn retry_after_in_both_forms() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (text, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:57 GMT", Some(20)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            assert_eq!(retry_after(&headers, now).map(|d| d.as_secs()), seconds, "{text}");
        }
    }

    #[test]
    fn tries_are_bounded_and_pauses_grow() {
        let options = ClientOptions::default();
        let pauses: Vec<_> = std::iter::from_fn({
            let mut tries = Tries::new(&options);
            move || tries.next()
        })
        .collect();
        assert_eq!(pauses.len(), options.attempts - 1);
        assert!(pauses[0] >= options.backoff_min && pauses[4] > pauses[0] * 4);
        let mut refused = Tries::new(&options);
        refused.in_all(2);
        assert!(refused.next().is_some() && refused.next().is_none());
    }

    #[test]
    fn a_held_host_makes_all_wait() {
        let pace = Pace::default();
        pace.hold("a", Instant::now() + Duration::from_secs(60));
        pace.hold("a", Instant::now() + Duration::from_secs(1));
        assert!(pace.pause("a").unwrap() > Duration::from_secs(50));
        assert_eq!(pace.pause("b"), None);
    }
}
