//! Meeting a 401: which of the challenges to take, and how a token is had. Secrets stay in here.

pub(crate) mod challenge;
pub(crate) mod token;
pub(crate) mod vault;

use std::time::{Duration, Instant};

use base64::Engine as _;
use berth_model::Status;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tracing::Instrument as _;
use url::Url;

use self::{
    challenge::{Bearer, Challenge, challenges},
    vault::Grant,
};
use crate::{
    access::Credentials,
    body::read_all,
    client::RegistryClient,
    endpoint::is_loopback,
    errand::{Errand, authority},
    transport::Hop,
};

/// Basic authentication has no end; looked at again now and then.
const BASIC_LIFE: Duration = Duration::from_secs(3600);
/// Larger than any token.
const MAX_ANSWER: u64 = 1 << 20;

impl RegistryClient {
    /// What to send so that the server at `url` answers, after it answered 401 with these headers.
    pub(crate) async fn obtain(&self, errand: &Errand<'_>, url: &Url, headers: &HeaderMap) -> Result<Grant, Status> {
        let offered = challenges(headers);
        let bearer = offered.iter().find_map(|challenge| match challenge {
            Challenge::Bearer(bearer) => Some(bearer),
            Challenge::Basic => None,
        });
        match (bearer, &errand.access.credentials) {
            (Some(bearer), _) => self.token(errand, url, bearer).instrument(tracing::info_span!("token")).await,
            (None, Some(credentials)) if offered.contains(&Challenge::Basic) => {
                Ok(Grant { header: basic(credentials)?, until: Instant::now() + BASIC_LIFE })
            }
            (None, None) if offered.contains(&Challenge::Basic) => Err(self.denied(errand, headers)),
            (None, _) => Err(Status::unauthenticated(format!(
                "{errand}: {} wants a kind of authentication that Berth does not speak (only Bearer and Basic)",
                authority(url)
            ))),
        }
    }

    async fn token(&self, errand: &Errand<'_>, registry: &Url, bearer: &Bearer) -> Result<Grant, Status> {
        let registry_is_http = registry.scheme() == "http" || registry.host_str().is_some_and(is_loopback);
        let realm = token::realm(bearer, registry_is_http).map_err(|status| status.context(errand))?;
        let host = authority(&realm);
        let scope =
            bearer.scope.clone().unwrap_or_else(|| format!("repository:{}:pull", errand.reference.repository()));
        let hop = match &errand.access.credentials {
            Some(credentials) if credentials.is_identity_token() => {
                Hop { form: Some(token::refresh_form(bearer, &scope, credentials)), ..Hop::new(Method::POST, realm) }
            }
            credentials => Hop {
                authorization: credentials.as_ref().map(basic).transpose()?,
                ..Hop::new(Method::GET, token::get_url(realm, bearer, &scope))
            },
        };
        let response = self.persist(errand, &hop).await?.response;
        let status = response.status();
        if !status.is_success() {
            return Err(match (status, &errand.access.credentials) {
                (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST, Some(credentials)) => {
                    refused(errand, credentials)
                }
                (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => self.denied(errand, &HeaderMap::new()),
                _ => self.refusal(response).await.status(errand).context("token"),
            });
        }
        let body = read_all(response, MAX_ANSWER, self.options.stall_timeout)
            .await
            .map_err(|error| error.status(errand).context("token"))?;
        let token = token::parse(&body)
            .map_err(|what| Status::failed_precondition(format!("{errand}: the token server {host} gave {what}")))?;
        let mut header = HeaderValue::try_from(format!("Bearer {}", token.text)).map_err(|_not_ascii| {
            Status::failed_precondition(format!("{errand}: the token server {host} gave a token that is no text"))
        })?;
        header.set_sensitive(true);
        Ok(Grant { header, until: Instant::now() + token.life })
    }

    /// The server will not have what it got; or it got nothing, and there is nothing to give.
    pub(crate) fn denied(&self, errand: &Errand<'_>, headers: &HeaderMap) -> Status {
        let Some(credentials) = &errand.access.credentials else {
            return Status::unauthenticated(format!(
                "{errand} needs credentials: give --user NAME[:PASSWORD]; if it should be public, check the name"
            ));
        };
        let lacks_right = challenges(headers).iter().any(
            |challenge| matches!(challenge, Challenge::Bearer(bearer) if bearer.error.as_deref() == Some("insufficient_scope")),
        );
        if lacks_right {
            return Status::permission_denied(format!(
                "{errand}: {} has no right to pull it, or it does not exist; check the name, or ask its owner",
                credentials.shown()
            ));
        }
        refused(errand, credentials)
    }
}

fn refused(errand: &Errand<'_>, credentials: &Credentials) -> Status {
    Status::unauthenticated(format!(
        "{errand}: {} refused the credentials for {}; check the name and the password",
        errand.reference.registry(),
        credentials.shown()
    ))
}

fn basic(credentials: &Credentials) -> Result<HeaderValue, Status> {
    let pair = format!("{}:{}", credentials.username(), credentials.secret());
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut header = HeaderValue::try_from(format!("Basic {encoded}"))
        .map_err(|_not_text| Status::invalid_argument("the credentials cannot be sent in a header"))?;
    header.set_sensitive(true);
    Ok(header)
}
