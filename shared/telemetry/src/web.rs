//! The HTTP client that carries spans. The thread that sends them is none of the runtime's, and this client needs it: so
//! each request runs there, and that thread waits.

use std::sync::OnceLock;

use anyhow::Context as _;
use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::redirect::Policy;
use tokio::runtime::Handle;

/// As much of an answer as anybody reads.
const ANSWER: usize = 64 << 10;

/// One for all signals: a command that ends soon shall not make two.
static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();

#[derive(Clone, Debug)]
pub(crate) struct Web {
    client: reqwest::Client,
    runtime: Handle,
}

impl Web {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let client = match CLIENT.get() {
            Some(client) => client.clone(),
            None => {
                let client = make(|name| std::env::var(name).ok()).context("telemetry: HTTP client")?;
                CLIENT.get_or_init(|| client).clone()
            }
        };
        Ok(Self { client, runtime: Handle::try_current()? })
    }

    async fn send(self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut response = self.client.execute(request.try_into()?).await?;
        let mut answer = Response::builder().status(response.status());
        if let Some(headers) = answer.headers_mut() {
            headers.extend(response.headers().clone());
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await? {
            if body.len() + piece.len() > ANSWER {
                return Err("the receiver of traces answers with more than it has to say".into());
            }
            body.extend_from_slice(&piece);
        }
        Ok(answer.body(body.into())?)
    }
}

fn make(variable: impl Fn(&str) -> Option<String>) -> reqwest::Result<reqwest::Client> {
    // Somebody else may have said it already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder().user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")));
    // Reading the certificates of the system takes as long as a hundredth of a small pull, and mostly the receiver is next door.
    if is_plain(variable) { client.tls_certs_only([]).redirect(Policy::none()).build() } else { client.build() }
}

/// Whether no receiver is spoken to over TLS.
fn is_plain(variable: impl Fn(&str) -> Option<String>) -> bool {
    let endpoints = ["", "TRACES_", "METRICS_"].map(|signal| variable(&format!("OTEL_EXPORTER_OTLP_{signal}ENDPOINT")));
    endpoints.iter().flatten().all(|endpoint| endpoint.trim().starts_with("http://") || endpoint.trim().is_empty())
}

#[async_trait]
impl HttpClient for Web {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.runtime.spawn(self.clone().send(request)).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_only_for_who_needs_them() {
        for (endpoints, plain) in [
            (&["http://a:4318"][..], true),
            (&["http://a:4318", ""], true),
            (&["https://a:4318"], false),
            (&["http://a:4318", "HTTPS://b"], false),
        ] {
            let names = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"];
            let given = |name: &str| {
                let pair = names.iter().zip(endpoints).find(|(known, _)| **known == name);
                pair.map(|(_, endpoint)| (*endpoint).to_owned())
            };
            assert_eq!(is_plain(given), plain, "{endpoints:?}");
            make(given).unwrap();
        }
    }
}
