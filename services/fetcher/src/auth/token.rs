//! What a token server is sent, and what it answers; no I/O.

use std::time::Duration;

use berth_model::Status;
use serde::Deserialize;
use url::Url;

use super::challenge::Bearer;
use crate::{access::Credentials, endpoint::is_loopback, errand::shown};

/// The lifetime of a token whose answer names none, from the specification of Docker's token server.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is given up this much before its end, so that it does not end on the way.
const MARGIN: Duration = Duration::from_secs(5);

/// A token and how long it may be used from now on.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) life: Duration,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("text", &"(hidden)").field("life", &self.life).finish()
    }
}

/// The realm, checked: a password goes over HTTPS, or where the user allowed plain HTTP (`registry_is_http`), or not
/// off this machine.
pub(crate) fn realm(bearer: &Bearer, registry_is_http: bool) -> Result<Url, Status> {
    let refuse = |why: String| Err(Status::failed_precondition(why));
    let Ok(mut url) = Url::parse(&bearer.realm) else {
        return refuse("its token server's address is no URL; the registry is set up wrongly".to_owned());
    };
    let host = url.host_str().unwrap_or_default();
    let allowed = match url.scheme() {
        "https" => true,
        "http" => registry_is_http || is_loopback(host),
        _ => false,
    };
    if !allowed {
        return refuse(format!(
            "its token server is {}, which is not HTTPS; credentials and tokens are not sent there",
            shown(&url)
        ));
    }
    if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
        return refuse("its token server's address has no host".to_owned());
    }
    Ok(url)
}

/// The URL of a token request by GET: anonymous, or with basic authentication.
pub(crate) fn get_url(mut realm: Url, bearer: &Bearer, scope: &str) -> Url {
    {
        let mut query = realm.query_pairs_mut();
        if let Some(service) = &bearer.service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope);
    }
    realm
}

/// The form of a token request by POST, for identity tokens (OAuth2 refresh).
pub(crate) fn refresh_form(bearer: &Bearer, scope: &str, credentials: &Credentials) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "refresh_token")
        .append_pair("service", bearer.service.as_deref().unwrap_or_default())
        .append_pair("client_id", "berth")
        .append_pair("scope", scope)
        .append_pair("refresh_token", credentials.secret())
        .finish()
}

/// Reads the answer. The error holds nothing of it: it may be half a token.
pub(crate) fn parse(body: &[u8]) -> Result<Token, &'static str> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
        #[serde(default)]
        expires_in: Option<f64>,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_not_json| "an answer that is no JSON")?;
    let text = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if text.is_empty() {
        return Err("an answer without a token");
    }
    // Less than 60 s is against the specification, and would mean a token for every request.
    let life = answer
        .expires_in
        .filter(|seconds| seconds.is_finite())
        .map_or(DEFAULT_LIFE, |seconds| Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0)));
    Ok(Token { text, life: life.saturating_sub(MARGIN) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str) -> Bearer {
        Bearer { realm: realm.to_owned(), service: Some("s & t".to_owned()), ..Bearer::default() }
    }

    #[test]
    fn passwords_go_only_where_they_are_safe() {
        for (address, registry_is_http, ok) in [
            ("https://auth.example/t", false, true),
            ("http://auth.example/t", false, false),
            ("http://auth.example/t", true, true),
            ("http://127.0.0.1:5001/t", false, true),
            ("ftp://auth.example/t", true, false),
            ("auth.example", true, false),
            ("", false, false),
        ] {
            assert_eq!(realm(&bearer(address), registry_is_http).is_ok(), ok, "{address}");
        }
        let url = realm(&bearer("https://u:p@a/t"), false).unwrap();
        assert_eq!(url.as_str(), "https://a/t");
    }

    #[test]
    fn asks_by_query_or_form() {
        let bearer = bearer("https://a/t?x=1");
        let url = get_url(realm(&bearer, false).unwrap(), &bearer, "repository:a/b:pull");
        assert_eq!(url.as_str(), "https://a/t?x=1&service=s+%26+t&scope=repository%3Aa%2Fb%3Apull");
        let access = crate::access::Access::with_user("<token>", "r&t", false);
        let form = refresh_form(&bearer, "repository:a:pull", access.credentials.as_ref().unwrap());
        assert!(form.contains("refresh_token=r%26t") && form.contains("grant_type=refresh_token"), "{form}");
    }

    #[test]
    fn reads_answers() {
        let token = |body: &str| parse(body.as_bytes()).map(|token| (token.text, token.life.as_secs()));
        assert_eq!(token(r#"{"token":"a"}"#), Ok(("a".to_owned(), 55)));
        assert_eq!(token(r#"{"access_token":"b","expires_in":300}"#), Ok(("b".to_owned(), 295)));
        assert_eq!(token(r#"{"token":"c","access_token":"d","expires_in":3}"#), Ok(("c".to_owned(), 0)));
        assert_eq!(token(r#"{"token":"c","expires_in":-3}"#), Ok(("c".to_owned(), 0)));
        assert!(token("{}").is_err() && token("<html>").is_err());
    }
}
