//! Who may pull, the challenge to others, and the token server at `/token`.

use base64::Engine as _;

use super::{Store, answer::Answer, http1::Request};

/// Who may pull.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Anybody.
    #[default]
    Open,
    /// User and password with each request.
    Basic(String, String),
    /// A token, that anybody gets.
    TokenForAnybody,
    /// A token, that only this user gets; nobody else gets one.
    Token(String, String),
    /// A token, that anybody gets, but only this user's is accepted (as Docker Hub for private repositories).
    TokenWithRight(String, String),
    /// A token by OAuth2, for this identity token.
    IdentityToken(String),
    /// A token from this realm; `{registry}` and `{cdn}` stand for the two hosts.
    Realm(String),
    /// Something nobody speaks.
    Negotiate,
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

impl Store {
    /// The challenge for a request that lacks what is wanted.
    pub(crate) fn challenge(&self, request: &Request, registry: &str, cdn: &str) -> Option<String> {
        let sent = request.header("authorization").unwrap_or_default();
        let token_is_good =
            sent.strip_prefix("Bearer ").is_some_and(|token| self.tokens.iter().any(|good| good == token));
        let repository = request.path.trim_start_matches("/v2/").split("/blobs/").next().unwrap_or_default();
        let repository = repository.split("/manifests/").next().unwrap_or_default();
        let bearer = |realm: &str| {
            let error = if sent.starts_with("Bearer ") { ",error=\"invalid_token\"" } else { "" };
            format!(
                "Bearer realm=\"{realm}\",service=\"hostile, \\\"inc\\\"\",scope=\"repository:{repository}:pull\"{error}"
            )
        };
        match &self.auth {
            Auth::Open => None,
            Auth::Basic(user, password) => {
                (sent != basic(user, password)).then(|| "Basic realm=\"hostile\"".to_owned())
            }
            Auth::Negotiate => Some("Negotiate".to_owned()),
            Auth::Realm(realm) => Some(bearer(&realm.replace("{registry}", registry).replace("{cdn}", cdn))),
            _ if token_is_good => None,
            _ => Some(bearer(&format!("http://{registry}/token"))),
        }
    }

    /// The token server's answer.
    pub(crate) fn token(&mut self, request: &Request) -> Answer {
        let sent = request.header("authorization").unwrap_or_default().to_owned();
        let asks_scope = request.path.contains("scope=repository") || request.body.contains("scope=repository");
        let refused = Answer::json(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}"#);
        let accepted = match &self.auth {
            Auth::TokenForAnybody => true,
            Auth::Token(user, password) if sent != basic(user, password) => return refused,
            Auth::TokenWithRight(user, password) => {
                if !sent.is_empty() && sent != basic(user, password) {
                    return refused;
                }
                !sent.is_empty()
            }
            Auth::IdentityToken(token) => {
                if request.method != "POST" || !request.body.contains(&format!("refresh_token={token}")) {
                    return refused;
                }
                true
            }
            _ => true,
        };
        if !asks_scope {
            return Answer::json(400, r#"{"details":"no scope"}"#);
        }
        self.tokens_made += 1;
        let token = format!("token-{}", self.tokens_made);
        if accepted {
            self.tokens.push(token.clone());
        }
        let key = if request.method == "POST" { "access_token" } else { "token" };
        Answer::json(200, &format!(r#"{{"{key}":"{token}","expires_in":300}}"#))
    }
}
