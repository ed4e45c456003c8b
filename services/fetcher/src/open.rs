//! Opening an object at an offset: which path, which range, and what the answer's bytes are.

use berth_model::{Descriptor, Kind, Reference, Status};
use http::{
    Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use reqwest::Response;

use crate::{
    access::Access,
    body::Body,
    client::RegistryClient,
    endpoint::object_url,
    errand::{Errand, Object},
    range::{Begins, Part, begins},
    resolve::MANIFEST_TYPES,
    transport::{Elsewhere, Hop},
};

/// Where to look, in order: registries keep manifests and blobs apart, and a few keep a manifest as a blob.
fn collections(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Index | Kind::Manifest | Kind::Schema1 => &["manifests", "blobs"],
        Kind::Config | Kind::Layer => &["blobs"],
        Kind::Unknown => &["blobs", "manifests"],
    }
}

/// An object that is open.
pub(crate) struct Opened {
    pub(crate) body: Body,
    /// Where it ends, if the server was asked for a part and says so.
    pub(crate) until: Option<u64>,
    /// The registry has sent us to another server on the way.
    pub(crate) elsewhere: bool,
}

impl RegistryClient {
    /// The bytes of `descriptor` from `offset` on, whatever the server makes of ranges. Codes as [`Self::resolve`].
    pub async fn open(
        &self,
        descriptor: &Descriptor,
        reference: &Reference,
        access: &Access,
        offset: u64,
    ) -> Result<Body, Status> {
        Ok(self.open_part(descriptor, reference, access, Part::rest(offset)).await?.body)
    }

    /// As [`Self::open`], and asks for no more than this part.
    pub(crate) async fn open_part(
        &self,
        descriptor: &Descriptor,
        reference: &Reference,
        access: &Access,
        part: Part,
    ) -> Result<Opened, Status> {
        let kind = descriptor.media_type.kind();
        let object = match kind {
            Kind::Index | Kind::Manifest | Kind::Schema1 => Object::Manifest(descriptor.digest),
            _ => Object::Blob(descriptor.digest),
        };
        let errand = Errand { reference, access, object };
        let response = self.find(&errand, descriptor, part).await?;
        let mut until = None;
        let (response, skip) = match begins(response.status(), response.headers(), part, descriptor.size) {
            Begins::There { until: here } => {
                until = Some(here);
                (response, 0)
            }
            Begins::AtZero => (response, part.from),
            what @ (Begins::Nowhere | Begins::Lies) => {
                tracing::debug!(%errand, ?part, ?what, "the range was not served; reading from the start");
                let whole = self.find(&errand, descriptor, Part::rest(0)).await?;
                if whole.status() != StatusCode::OK {
                    return Err(self.refusal(whole).await.status(&errand));
                }
                (whole, part.from)
            }
        };
        check_content(&errand, descriptor, &response)?;
        let elsewhere = response.extensions().get::<Elsewhere>().is_some();
        Ok(Opened { elsewhere, body: Body::new(response, skip, &self.options), until })
    }

    /// The first answer that is a success, or says that the range cannot be served.
    async fn find(&self, errand: &Errand<'_>, descriptor: &Descriptor, part: Part) -> Result<Response, Status> {
        let base = self.base(errand).await?;
        let mut missing = None;
        for collection in collections(descriptor.media_type.kind()) {
            let url = object_url(&base, errand.reference, collection, &descriptor.digest.to_string())?;
            let hop = Hop {
                accept: (*collection == "manifests").then_some(MANIFEST_TYPES),
                part,
                large: descriptor.size.saturating_sub(part.from) >= self.options.large_bytes,
                ..Hop::new(Method::GET, url)
            };
            let response = self.send(errand, hop).await?;
            let fine = matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT)
                || (part.header().is_some() && response.status() == StatusCode::RANGE_NOT_SATISFIABLE);
            if fine {
                return Ok(response);
            }
            let not_found = response.status() == StatusCode::NOT_FOUND;
            let status = self.refusal(response).await.status(errand);
            if !not_found {
                return Err(status);
            }
            missing.get_or_insert(status);
        }
        Err(missing.unwrap_or_else(|| Status::internal(format!("{errand}: nowhere to look"))))
    }
}

/// A login page with status 200 is no blob; better said at once than as a wrong digest.
fn check_content(errand: &Errand<'_>, descriptor: &Descriptor, response: &Response) -> Result<(), Status> {
    let text = |name| response.headers().get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let page = text(CONTENT_TYPE).is_some_and(|kind| kind.trim_start().starts_with("text/html"));
    let length = text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if page && response.status() == StatusCode::OK && length != Some(descriptor.size) {
        return Err(Status::failed_precondition(format!(
            "{errand}: {} answered with a web page; is there a login page or a proxy between here and the registry?",
            crate::errand::authority(response.url())
        )));
    }
    Ok(())
}
