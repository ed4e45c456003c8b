//! `WWW-Authenticate` (RFC 9110, 11.6.1): what a server wants to see before it answers.

use http::{HeaderMap, header::WWW_AUTHENTICATE};

/// A challenge Berth can meet, or says that it cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token from `realm` (distribution spec, "token authentication").
    Bearer(Bearer),
    /// User and password in each request.
    Basic,
}

/// What a token server is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) realm: String,
    pub(crate) service: Option<String>,
    pub(crate) scope: Option<String>,
    /// Why a token that was sent did not do.
    pub(crate) error: Option<String>,
}

/// Longest header that is read; real ones have some hundred bytes.
const MAX_HEADER: usize = 8 << 10;

/// All challenges of an answer that are understood, in order; others are left out.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter(|text| text.len() <= MAX_HEADER)
        .flat_map(parse)
        .collect()
}

/// Several challenges may share a header, and their parameters are separated by the same commas: a word is a new
/// scheme if no `=` follows it.
fn parse(text: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut current: Option<(String, Bearer)> = None;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        let after_space = after.trim_start_matches([' ', '\t']);
        if let Some(value) = after_space.strip_prefix('=') {
            let (value, after) = parameter(value.trim_start_matches([' ', '\t']));
            rest = after;
            if let Some((_, bearer)) = &mut current {
                match word.to_ascii_lowercase().as_str() {
                    "realm" => bearer.realm = value,
                    "service" => bearer.service = Some(value),
                    "scope" => bearer.scope = Some(value),
                    "error" => bearer.error = Some(value),
                    _ => {}
                }
            }
        } else {
            found.extend(current.take().and_then(finish));
            current = Some((word.to_ascii_lowercase(), Bearer::default()));
            rest = after;
        }
    }
    found.extend(current.and_then(finish));
    found
}

fn finish((scheme, bearer): (String, Bearer)) -> Option<Challenge> {
    match scheme.as_str() {
        "bearer" if !bearer.realm.is_empty() => Some(Challenge::Bearer(bearer)),
        "basic" => Some(Challenge::Basic),
        _ => None,
    }
}

/// A `token` (RFC 9110, 5.6.2) and what follows it.
fn token(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))).unwrap_or(text.len());
    text.split_at(end)
}

/// A parameter's value, quoted or bare; a quote that never ends reaches to the end.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        // Some registries send bare URLs, which are no tokens.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer(Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
            error: None,
        })
    }

    #[test]
    fn reads_what_registries_send() {
        for (text, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull""#,
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/alpine:pull"),
                )],
            ),
            (
                r#"bearer  realm = "https://a/t" , scope="repository:a:pull,push repository:b:pull""#,
                vec![bearer("https://a/t", None, Some("repository:a:pull,push repository:b:pull"))],
            ),
            (r#"Basic realm="Registry""#, vec![Challenge::Basic]),
            ("Basic", vec![Challenge::Basic]),
            (
                r#"Basic realm="a", charset="UTF-8", Bearer realm="https://t""#,
                vec![Challenge::Basic, bearer("https://t", None, None)],
            ),
            (r#"Bearer realm=https://t/x,service=s"#, vec![bearer("https://t/x", Some("s"), None)]),
            (r#"Bearer realm="a\"b\\c""#, vec![bearer("a\"b\\c", None, None)]),
            (r#"Bearer realm="never ends"#, vec![bearer("never ends", None, None)]),
            ("Negotiate abc==, Bearer", vec![]),
            ("Digest realm=\"x\", nonce=\"y\"", vec![]),
            ("", vec![]),
            (",,,", vec![]),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn reads_several_headers_and_the_error() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, "Basic".parse().unwrap());
        headers.append(WWW_AUTHENTICATE, r#"Bearer realm="r",error="insufficient_scope""#.parse().unwrap());
        let found = challenges(&headers);
        assert_eq!(found[0], Challenge::Basic);
        assert!(matches!(&found[1], Challenge::Bearer(b) if b.error.as_deref() == Some("insufficient_scope")));
    }

    proptest::proptest! {
        #[test]
        fn ends_on_any_text(text in "\\PC{0,200}") {
            parse(&text);
        }
    }
}
