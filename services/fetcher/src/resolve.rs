//! From a reference to the descriptor of what it names now.

use berth_model::{Descriptor, Digest, Kind, MediaType, Reference, Status, media_type};
use bytes::Bytes;
use http::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};

use crate::{
    access::Access,
    body::{ReadError, read_all},
    client::RegistryClient,
    endpoint::object_url,
    errand::{Errand, Object},
    retry::Tries,
    transport::Hop,
};

/// What a registry is told we take, best first.
pub(crate) const MANIFEST_TYPES: &str = concat!(
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, ",
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, */*"
);
const CONTENT_DIGEST: &str = "docker-content-digest";

impl RegistryClient {
    /// What the reference names now: the descriptor of an index or a manifest.
    ///
    /// NOT_FOUND, UNAUTHENTICATED, PERMISSION_DENIED as the registry says; INVALID_ARGUMENT for Docker schema 1 and for
    /// what is no image; FAILED_PRECONDITION when the registry's answer cannot be used.
    pub async fn resolve(&self, reference: &Reference, access: &Access) -> Result<Descriptor, Status> {
        let errand = Errand { reference, access, object: Object::Target };
        let base = self.base(&errand).await?;
        let url = object_url(&base, reference, "manifests", &reference.object())?;
        let head = Hop {
            accept: Some(MANIFEST_TYPES),
            stay_safe: reference.digest().is_none(),
            ..Hop::new(Method::HEAD, url)
        };
        let response = self.send(&errand, head.clone()).await?;
        match response.status() {
            StatusCode::NOT_FOUND => return Err(self.refusal(response).await.status(&errand)),
            // Some registries refuse HEAD, and the reason for any other refusal is in the body of GET alone.
            status if !status.is_success() => {}
            _ => {
                if let Some(found) = described(response.headers()) {
                    return self.checked(&errand, found);
                }
            }
        }
        let get = Hop { method: Method::GET, ..head };
        let (headers, body) = self.document(&errand, get).await?;
        let digest = Digest::of(&body);
        if let Some(said) = header(&headers, CONTENT_DIGEST)
            && said.parse() != Ok(digest)
        {
            return Err(Status::failed_precondition(format!(
                "{errand}: the registry says it is {said}, but sent {digest}; it is broken at its source"
            )));
        }
        let served = MediaType::new(header(&headers, CONTENT_TYPE.as_str()).unwrap_or_default());
        let media_type = told_type(digest, &served, &body).map_err(|status| status.context(&errand))?;
        self.checked(&errand, Descriptor::new(media_type.as_str(), digest, body.len() as u64))
    }

    /// Holds the answer against the question.
    fn checked(&self, errand: &Errand<'_>, found: Descriptor) -> Result<Descriptor, Status> {
        if found.media_type.kind() == Kind::Schema1 {
            let error = berth_model::ManifestError::Schema1 { digest: found.digest };
            return Err(Status::invalid_argument(format!("{errand}: {error}")));
        }
        if let Some(wanted) = errand.reference.digest()
            && *wanted != found.digest
        {
            return Err(Status::failed_precondition(format!(
                "{errand}: the registry answered with {} instead; it cannot be trusted",
                found.digest
            )));
        }
        if found.size > self.options.max_manifest_bytes {
            return Err(Status::failed_precondition(format!(
                "{errand}: it has {} bytes; a manifest has at most {}",
                found.size, self.options.max_manifest_bytes
            )));
        }
        Ok(found)
    }

    /// GETs a small object whole, however often the connection breaks.
    async fn document(&self, errand: &Errand<'_>, get: Hop) -> Result<(HeaderMap, Bytes), Status> {
        let mut tries = Tries::new(&self.options);
        loop {
            let response = self.send(errand, get.clone()).await?;
            if !response.status().is_success() {
                return Err(self.refusal(response).await.status(errand));
            }
            let headers = response.headers().clone();
            match read_all(response, self.options.max_manifest_bytes, self.options.stall_timeout).await {
                Ok(body) => return Ok((headers, body)),
                Err(error @ ReadError::TooLarge(_)) => return Err(error.status(errand)),
                Err(error) => match tries.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(error.status(errand)),
                },
            }
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The descriptor in the headers of a HEAD answer, if all of it is there and names an image document.
fn described(headers: &HeaderMap) -> Option<Descriptor> {
    let digest = header(headers, CONTENT_DIGEST)?.parse().ok()?;
    let size = header(headers, CONTENT_LENGTH.as_str())?.parse().ok().filter(|size| *size > 0)?;
    let media_type = MediaType::new(header(headers, CONTENT_TYPE.as_str())?);
    let known = matches!(media_type.kind(), Kind::Index | Kind::Manifest | Kind::Schema1);
    known.then(|| Descriptor::new(media_type.as_str(), digest, size))
}

/// The media type of a document: as served, else as it says itself, else OCI's for its shape.
fn told_type(digest: Digest, served: &MediaType, body: &[u8]) -> Result<MediaType, Status> {
    #[derive(serde::Deserialize)]
    struct Own {
        #[serde(default, rename = "mediaType")]
        media_type: String,
    }
    let kind = Kind::of_document(digest, served, body).map_err(|error| Status::invalid_argument(error.to_string()))?;
    if served.kind() == kind {
        return Ok(served.clone());
    }
    let own = serde_json::from_slice::<Own>(body)
        .map_or_else(|_no_json| MediaType::default(), |own| MediaType::new(&own.media_type));
    if own.kind() == kind {
        return Ok(own);
    }
    Ok(MediaType::new(match kind {
        Kind::Index => media_type::OCI_INDEX,
        _ => media_type::OCI_MANIFEST,
    }))
}
