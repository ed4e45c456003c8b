//! The HTTP client that carries spans. The thread that sends them is none of the runtime's, and this client needs it: so
//! each request runs there, and that thread waits.

use anyhow::Context as _;
use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

/// As much of an answer as anybody reads.
const ANSWER: usize = 64 << 10;

#[derive(Clone, Debug)]
pub(crate) struct Web {
    client: reqwest::Client,
    runtime: Handle,
}

impl Web {
    pub(crate) fn new() -> anyhow::Result<Self> {
        // Somebody else may have said it already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder().user_agent(concat!("berth/", env!("CARGO_PKG_VERSION"))).build();
        Ok(Self { client: client.context("traces: HTTP client")?, runtime: Handle::try_current()? })
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

#[async_trait]
impl HttpClient for Web {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.runtime.spawn(self.clone().send(request)).await?
    }
}
