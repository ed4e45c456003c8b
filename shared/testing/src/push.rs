//! Pushes blobs and manifests to a registry over HTTP, as the distribution specification describes it.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use reqwest::{Client, RequestBuilder, StatusCode, header};

/// One repository of a registry that speaks plain HTTP.
pub struct Pusher {
    client: Client,
    base: String,
    login: Option<(String, String)>,
}

impl Pusher {
    /// A pusher to `http://HOST/v2/REPOSITORY`.
    pub fn new(host: &str, repository: &str, login: Option<(&str, &str)>) -> Result<Self> {
        install_crypto();
        Ok(Self {
            // A new connection each time: a registry may have been restarted since.
            client: Client::builder().no_proxy().pool_max_idle_per_host(0).build()?,
            base: format!("http://{host}/v2/{repository}"),
            login: login.map(|(name, password)| (name.to_owned(), password.to_owned())),
        })
    }

    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.login {
            None => request,
            Some((name, password)) => request.basic_auth(name, Some(password)),
        }
    }

    /// Uploads a blob, unless it is there.
    pub async fn blob(&self, digest: &str, bytes: Bytes) -> Result<()> {
        let there = self.signed(self.client.head(format!("{}/blobs/{digest}", self.base)));
        if there.send().await?.status() == StatusCode::OK {
            return Ok(());
        }
        let begun = self
            .signed(self.client.post(format!("{}/blobs/uploads/", self.base)))
            .header(header::CONTENT_LENGTH, 0)
            .send()
            .await?;
        ensure!(begun.status() == StatusCode::ACCEPTED, "begin an upload: {}", begun.status());
        let place =
            begun.headers().get(header::LOCATION).context("the registry names no place for the upload")?.to_str()?;
        let place = begun.url().join(place)?;
        let joint = if place.query().is_some() { '&' } else { '?' };
        let done = self
            .signed(self.client.put(format!("{place}{joint}digest={digest}")))
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(bytes)
            .send()
            .await?;
        ensure!(done.status() == StatusCode::CREATED, "upload {digest}: {}", done.status());
        Ok(())
    }

    /// Puts a manifest or an index under a tag or its digest.
    pub async fn manifest(&self, tag: &str, media_type: &str, bytes: Bytes) -> Result<()> {
        let done = self
            .signed(self.client.put(format!("{}/manifests/{tag}", self.base)))
            .header(header::CONTENT_TYPE, media_type)
            .body(bytes)
            .send()
            .await?;
        let status = done.status();
        ensure!(status == StatusCode::CREATED, "put manifest {tag}: {status}: {}", done.text().await?);
        Ok(())
    }
}

/// The one crypto provider; the second call finds it installed.
fn install_crypto() {
    let _installed_already = rustls::crypto::ring::default_provider().install_default();
}
