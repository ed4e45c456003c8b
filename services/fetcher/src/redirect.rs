//! Where a redirect leads, and whether the credentials may go along. Followed by hand, because that second question is
//! ours to answer: registries send blob requests to storage hosts that must never see the registry's token.

use http::{HeaderMap, StatusCode, header::LOCATION};
use url::Url;

/// The next stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) url: Url,
    /// Still the same scheme, host and port.
    pub(crate) same_origin: bool,
}

/// Whether the answer sends the client elsewhere. Only GET and HEAD are redirected, so the method never changes.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Reads the `Location` of a redirect from `from`; the error is for people. `stay_safe`: the answer is not verified by a
/// digest, so it must not come over HTTP when the question went over HTTPS.
pub(crate) fn next(from: &Url, headers: &HeaderMap, stay_safe: bool) -> Result<Next, String> {
    let location = headers
        .get(LOCATION)
        .ok_or("it redirects without saying where")?
        .to_str()
        .map_err(|_not_ascii| "it redirects to something that is no URL")?;
    let mut url = from.join(location).map_err(|_not_a_url| "it redirects to something that is no URL")?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("it redirects to a {}: URL", url.scheme()));
    }
    if stay_safe && from.scheme() == "https" && url.scheme() == "http" {
        return Err("it redirects from HTTPS to HTTP".to_owned());
    }
    // Credentials in a URL would become a header of their own; nobody gave us those.
    url.set_username("")
        .and_then(|()| url.set_password(None))
        .map_err(|()| "it redirects to something that is no URL")?;
    let same_origin = url.scheme() == from.scheme()
        && url.host_str() == from.host_str()
        && url.port_or_known_default() == from.port_or_known_default();
    Ok(Next { url, same_origin })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let from: Url = "https://r.example/v2/a/blobs/x".parse().unwrap();
        for (location, leads_to, same) in [
            ("/elsewhere?x=1", "https://r.example/elsewhere?x=1", true),
            ("https://r.example:443/a", "https://r.example/a", true),
            ("https://r.example:444/a", "https://r.example:444/a", false),
            ("http://r.example/a", "http://r.example/a", false),
            ("//cdn.example/a", "https://cdn.example/a", false),
            ("https://u:p@cdn.example/a", "https://cdn.example/a", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, location.parse().unwrap());
            let next = next(&from, &headers, false).unwrap();
            assert_eq!((next.url.as_str(), next.same_origin), (leads_to, same), "{location}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, "http://r.example/a".parse().unwrap());
        assert!(next(&from, &headers, true).unwrap_err().contains("from HTTPS to HTTP"));
        for bad in ["file:///etc/passwd", "ftp://x/y", "http://"] {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, bad.parse().unwrap());
            assert!(next(&from, &headers, false).is_err(), "{bad}");
        }
        assert!(next(&from, &HeaderMap::new(), false).is_err());
    }
}
