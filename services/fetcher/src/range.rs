//! `Content-Range` (RFC 9110, 14.4), and what an answer to a ranged request means for the bytes that follow.

use http::{HeaderMap, StatusCode, header::CONTENT_RANGE};

/// Where a body's first byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// At the offset that was asked for.
    There,
    /// At zero: so many bytes are to be dropped.
    AtZero,
    /// The server says the range cannot be served.
    Nowhere,
    /// The answer contradicts the question.
    Lies,
}

/// Judges the answer to a request for the bytes from `offset` of `size`. Only for 200, 206 and 416.
pub(crate) fn begins(status: StatusCode, headers: &HeaderMap, offset: u64, size: u64) -> Begins {
    match status {
        StatusCode::PARTIAL_CONTENT => match headers.get(CONTENT_RANGE).map(|v| v.to_str().map(parse)) {
            Some(Ok(Some(range))) if range.first == offset && range.total.is_none_or(|total| total == size) => {
                Begins::There
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
    sound.then_some(ContentRange { first, total })
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
        let range = |first, total| Some(ContentRange { first, total });
        for (text, expected) in [
            ("bytes 5-9/10", range(5, Some(10))),
            ("Bytes 0-0/*", range(0, None)),
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
            begins(StatusCode::from_u16(status).unwrap(), &headers, 5, 10)
        };
        assert_eq!(judge(206, "bytes 5-9/10"), Begins::There);
        assert_eq!(judge(206, "bytes 5-7/*"), Begins::There);
        assert_eq!(judge(206, "bytes 4-9/10"), Begins::Lies);
        assert_eq!(judge(206, "bytes 5-9/11"), Begins::Lies);
        assert_eq!(judge(206, ""), Begins::Lies);
        assert_eq!(judge(200, ""), Begins::AtZero);
        assert_eq!(judge(416, "bytes */10"), Begins::Nowhere);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in ".{0,60}") {
            parse(&text);
        }
    }
}
