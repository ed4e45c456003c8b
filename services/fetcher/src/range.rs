//! `Content-Range` (RFC 9110, 14.4), and what an answer to a ranged request means for the bytes that follow.

use http::{HeaderMap, StatusCode, header::CONTENT_RANGE};

/// Which bytes of an object are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) from: u64,
    /// The first byte that is not asked for; none: to the end.
    pub(crate) until: Option<u64>,
}

impl Part {
    /// All bytes from `from` on.
    pub(crate) fn rest(from: u64) -> Self {
        Self { from, until: None }
    }

    /// What `Range` says; nothing, if everything is asked for.
    pub(crate) fn header(self) -> Option<String> {
        match (self.from, self.until) {
            (0, None) => None,
            (from, None) => Some(format!("bytes={from}-")),
            (from, Some(until)) => Some(format!("bytes={from}-{}", until.saturating_sub(1))),
        }
    }
}

/// Where a body's first byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// At the offset that was asked for; the body ends here, if it keeps its word.
    There { until: u64 },
    /// At zero: so many bytes are to be dropped.
    AtZero,
    /// The server says the range cannot be served.
    Nowhere,
    /// The answer contradicts the question.
    Lies,
}

/// Judges the answer to a request for a part of `size` bytes. Only for 200, 206 and 416.
pub(crate) fn begins(status: StatusCode, headers: &HeaderMap, part: Part, size: u64) -> Begins {
    match status {
        StatusCode::PARTIAL_CONTENT => match headers.get(CONTENT_RANGE).map(|v| v.to_str().map(parse)) {
            Some(Ok(Some(range))) if range.first == part.from && range.total.is_none_or(|total| total == size) => {
                Begins::There { until: range.until }
            }
            _ => Begins::Lies,
        },
        StatusCode::RANGE_NOT_SATISFIABLE => Begins::Nowhere,
        _ => Begins::AtZero,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    until: u64,
    total: Option<u64>,
}

/// `bytes FIRST-LAST/TOTAL`, with `*` for a total that is not known.
fn parse(text: &str) -> Option<ContentRange> {
    let (unit, rest) = text.trim().split_once(' ')?;
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let total = match total {
        "*" => None,
        total => Some(number(total)?),
    };
    let sound = unit.eq_ignore_ascii_case("bytes") && first <= last && total.is_none_or(|total| last < total);
    sound.then(|| ContentRange { first, until: last.saturating_add(1), total })
}

/// Digits only: `u64::from_str` would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_content_range() {
        let range = |first, until, total| Some(ContentRange { first, until, total });
        for (text, expected) in [
            ("bytes 5-9/10", range(5, 10, Some(10))),
            ("Bytes 0-0/*", range(0, 1, None)),
            ("bytes 5-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("bytes +5-9/10", None),
            ("items 5-9/10", None),
            ("bytes 5-/10", None),
            ("", None),
            ("bytes 99999999999999999999-99999999999999999999/*", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn judges_answers() {
        let judge = |status: u16, text: &str| {
            let mut headers = HeaderMap::new();
            if !text.is_empty() {
                headers.insert(CONTENT_RANGE, text.parse().unwrap());
            }
            begins(StatusCode::from_u16(status).unwrap(), &headers, Part::rest(5), 10)
        };
        assert_eq!(judge(206, "bytes 5-9/10"), Begins::There { until: 10 });
        assert_eq!(judge(206, "bytes 5-7/*"), Begins::There { until: 8 });
        assert_eq!(judge(206, "bytes 4-9/10"), Begins::Lies);
        assert_eq!(judge(206, "bytes 5-9/11"), Begins::Lies);
        assert_eq!(judge(206, ""), Begins::Lies);
        assert_eq!(judge(200, ""), Begins::AtZero);
        assert_eq!(judge(416, "bytes */10"), Begins::Nowhere);
    }

    #[test]
    fn asks_for_parts() {
        let parts = [Part::rest(0), Part::rest(7), Part { from: 0, until: Some(4) }, Part { from: 4, until: Some(5) }];
        let asked = parts.map(Part::header);
        let said = [None, Some("bytes=7-"), Some("bytes=0-3"), Some("bytes=4-4")];
        assert_eq!(asked.each_ref().map(Option::as_deref), said);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".{0,60}") {
            parse(&text);
        }
    }
}
