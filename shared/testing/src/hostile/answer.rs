//! What a decent registry would answer; faults are put on top of it.

use berth_model::{Digest, Kind, MediaType};
use bytes::Bytes;

use super::{State, http1::Request};

/// An answer, whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body: body.to_owned().into(),
        }
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.headers.retain(|(old, _)| !old.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.headers.retain(|(old, _)| !old.eq_ignore_ascii_case(name));
    }
}

/// The media type of an image document among an image's blobs; none for configs and layers.
pub(crate) fn manifest_type(bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let media_type = value.get("mediaType")?.as_str()?.to_owned();
    matches!(MediaType::new(&media_type).kind(), Kind::Index | Kind::Manifest).then_some(media_type)
}

/// The whole object, without regard to ranges.
pub(crate) fn plain(state: &State, request: &Request, cdn: bool) -> Answer {
    let mut store = state.store.lock().unwrap();
    let path = request.path.split('?').next().unwrap_or_default();
    if path == "/token" {
        return store.token(request);
    }
    if !cdn && let Some(challenge) = store.challenge(request, &state.registry.to_string(), &state.cdn.to_string()) {
        let mut answer =
            Answer::json(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#);
        answer.set("WWW-Authenticate", challenge);
        return answer;
    }
    if path == "/v2/" {
        return Answer::json(200, "{}");
    }
    if let Some((repository, object)) = path.trim_start_matches("/v2/").split_once("/manifests/") {
        let digest =
            object.parse::<Digest>().ok().or_else(|| store.tags.get(&format!("{repository}:{object}")).copied());
        if let Some((digest, (media_type, bytes))) =
            digest.and_then(|digest| Some((digest, store.manifests.get(&digest)?)))
        {
            let mut answer = found(digest, bytes);
            answer.set("Content-Type", media_type.clone());
            return answer;
        }
        return Answer::json(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#);
    }
    let blob = path
        .rsplit_once("/blobs/")
        .and_then(|(_, digest)| digest.parse::<Digest>().ok())
        .and_then(|digest| Some((digest, store.blobs.get(&digest)?)));
    match blob {
        Some((digest, bytes)) => found(digest, bytes),
        None => Answer::json(404, r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#),
    }
}

fn found(digest: Digest, bytes: &Bytes) -> Answer {
    Answer {
        status: 200,
        headers: vec![
            ("Content-Type".to_owned(), "application/octet-stream".to_owned()),
            ("Docker-Content-Digest".to_owned(), digest.to_string()),
        ],
        body: bytes.clone(),
    }
}

/// Cuts a 200 down to the range that was asked for (`bytes=FIRST-` or `bytes=FIRST-LAST`). `shift` is what the
/// `Content-Range` lies by.
pub(crate) fn ranged(mut answer: Answer, range: Option<&str>, shift: i64) -> Answer {
    let Some(range) = range.and_then(|range| range.strip_prefix("bytes=")) else { return answer };
    if answer.status != 200 {
        return answer;
    }
    let total = answer.body.len();
    let (first, last) = range.split_once('-').unwrap_or((range, ""));
    let first: usize = first.parse().unwrap_or(0);
    let last = last.parse().map_or(total, |last: usize| (last + 1).min(total));
    if first >= last {
        answer.status = 416;
        answer.set("Content-Range", format!("bytes */{total}"));
        answer.body = Bytes::new();
        return answer;
    }
    answer.status = 206;
    answer.body = answer.body.slice(first..last);
    let said = (first as i64 + shift).max(0);
    let said_last = (last as i64 - 1 + shift).max(said).min(total as i64 - 1);
    answer.set("Content-Range", format!("bytes {said}-{said_last}/{total}"));
    answer
}
