//! Bodies: read to a bound, watched for silence and trickle.

use std::time::{Duration, Instant};

use berth_model::Status;
use bytes::{Bytes, BytesMut};
use reqwest::Response;
use url::Url;

use crate::{
    errand::authority,
    failure::{Failure, FailureKind},
    options::ClientOptions,
};

/// The bytes of an object from some offset on, as they arrive.
pub struct Body {
    /// None: there is nothing left to come.
    response: Option<Response>,
    url: Url,
    /// Bytes to drop first: the server began at zero.
    skip: u64,
    stall: Duration,
    trickle: Trickle,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("host", &self.url.host_str()).field("skip", &self.skip).finish_non_exhaustive()
    }
}

impl Body {
    pub(crate) fn new(response: Response, skip: u64, options: &ClientOptions) -> Self {
        Self {
            url: response.url().clone(),
            response: Some(response),
            skip,
            stall: options.stall_timeout,
            trickle: Trickle::new(options, Instant::now()),
        }
    }

    /// The next bytes; `None` at the end that the server declared. UNAVAILABLE: the body broke, and may be opened again
    /// where it broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        self.chunk().await.map_err(|failure| failure.status(&"download"))
    }

    /// Where it was found in the end.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// `host:port` of who sends it.
    pub(crate) fn host(&self) -> String {
        authority(&self.url)
    }

    /// As [`Body::next`], with what went wrong.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(response) = &mut self.response {
            let mut chunk = match tokio::time::timeout(self.stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(Failure::of(&self.url, error)),
                Err(_elapsed) => {
                    let why = format!("sent nothing for {:?}", self.stall);
                    return Err(Failure::new(FailureKind::Silent, &self.url, why));
                }
            };
            if let Err(why) = self.trickle.count(chunk.len() as u64, Instant::now()) {
                return Err(Failure::new(FailureKind::Silent, &self.url, why));
            }
            let dropped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
            self.skip -= dropped as u64;
            let kept = chunk.split_off(dropped);
            if !kept.is_empty() {
                return Ok(Some(kept));
            }
        }
        self.response = None;
        Ok(None)
    }
}

/// Notices a body that arrives, but too slowly to ever end.
struct Trickle {
    window: Duration,
    floor: u64,
    since: Instant,
    bytes: u64,
}

impl Trickle {
    fn new(options: &ClientOptions, now: Instant) -> Self {
        Self { window: options.trickle_window, floor: options.trickle_bytes, since: now, bytes: 0 }
    }

    fn count(&mut self, bytes: u64, now: Instant) -> Result<(), String> {
        self.bytes += bytes;
        if now.duration_since(self.since) < self.window {
            return Ok(());
        }
        if self.bytes < self.floor {
            return Err(format!("sent only {} bytes in {:?}", self.bytes, self.window));
        }
        (self.since, self.bytes) = (now, 0);
        Ok(())
    }
}

/// A whole body of at most `max` bytes did not come.
#[derive(Debug)]
pub(crate) enum ReadError {
    Broken(Failure),
    TooLarge(u64),
}

impl ReadError {
    pub(crate) fn status(&self, doing: &impl std::fmt::Display) -> Status {
        match self {
            Self::Broken(failure) => failure.status(doing),
            Self::TooLarge(max) => Status::failed_precondition(format!(
                "{doing}: the answer is larger than {max} bytes; such an answer never is"
            )),
        }
    }
}

/// The whole body, if it is not larger than `max`.
pub(crate) async fn read_all(mut response: Response, max: u64, stall: Duration) -> Result<Bytes, ReadError> {
    let url = response.url().clone();
    let mut whole = BytesMut::new();
    loop {
        match tokio::time::timeout(stall, response.chunk()).await {
            Ok(Ok(Some(chunk))) if whole.len() as u64 + chunk.len() as u64 > max => {
                return Err(ReadError::TooLarge(max));
            }
            Ok(Ok(Some(chunk))) => whole.extend_from_slice(&chunk),
            Ok(Ok(None)) => return Ok(whole.freeze()),
            Ok(Err(error)) => return Err(ReadError::Broken(Failure::of(&url, error))),
            Err(_elapsed) => {
                let why = format!("sent nothing for {stall:?}");
                return Err(ReadError::Broken(Failure::new(FailureKind::Silent, &url, why)));
            }
        }
    }
}

/// The first bytes of a body that is only looked at: what breaks or is too long is left out.
pub(crate) async fn read_some(mut response: Response, max: u64, stall: Duration) -> Vec<u8> {
    let mut some = Vec::new();
    while (some.len() as u64) < max
        && let Ok(Ok(Some(chunk))) = tokio::time::timeout(stall, response.chunk()).await
    {
        some.extend_from_slice(&chunk);
    }
    some.truncate(usize::try_from(max).unwrap_or(usize::MAX));
    some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_noticed_and_a_stream_is_not() {
        let options =
            ClientOptions { trickle_window: Duration::from_secs(60), trickle_bytes: 100, ..ClientOptions::default() };
        let start = Instant::now();
        let mut trickle = Trickle::new(&options, start);
        assert!(trickle.count(99, start + Duration::from_secs(59)).is_ok());
        assert!(trickle.count(1, start + Duration::from_secs(60)).is_ok());
        assert!(trickle.count(99, start + Duration::from_secs(121)).is_err());
    }
}
