//! What can be ordered: faults, where they strike, and how often.

use std::time::Duration;

/// One misbehaviour of one answer. Byte counts are counted in the answer's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status with this body, as JSON if it looks so, as a web page if it begins with `<`.
    Status(u16, String),
    /// 429, with `Retry-After` if given.
    TooManyRequests(Option<String>),
    /// 307 to the storage host, which has all blobs and asks for nothing.
    ToCdn,
    /// 302 to anywhere; `{registry}` and `{cdn}` stand for the two hosts.
    Redirect(String),
    /// One bit of the byte at this place is flipped.
    Corrupt(usize),
    /// So many bytes and a clean end (chunked).
    EndAfter(usize),
    /// The whole `Content-Length`, so many bytes, and the connection is closed.
    CloseAfter(usize),
    /// So many bytes, and the connection is reset; what the client has not taken by then is lost with it.
    ResetAfter(usize),
    /// So many bytes, and silence for an hour.
    StallAfter(usize),
    /// So many bytes, and the rest when the registry behaves.
    HeldAfter(usize),
    /// So many bytes at a time, with a pause before each.
    Trickle(usize, Duration),
    /// So many bytes more than there are.
    Longer(usize),
    /// `Range` is ignored: 200 and all of it.
    IgnoreRange,
    /// 206 whose `Content-Range` is off by so many bytes.
    LyingRange(i64),
    /// 416 for every range.
    NoRange,
    /// Another `Content-Type`.
    ContentType(String),
    /// Without `Docker-Content-Digest`.
    NoDigest,
    /// With this `Docker-Content-Digest`.
    WrongDigest(String),
    /// Without `Content-Length` (chunked).
    NoLength,
    /// 405 for HEAD.
    NoHead,
    /// The connection is closed without an answer.
    Hangup,
    /// No answer for an hour.
    Silence,
    /// The answer comes so much later, as from far away.
    Late(Duration),
}

/// Where and how often: the first order that fits a request is followed, and used up. Requests that are answered with a
/// challenge (401) do not count.
#[derive(Clone, Debug, Default)]
pub struct Faults(Vec<Order>);

#[derive(Clone, Debug)]
struct Order {
    part: String,
    method: Option<&'static str>,
    /// Requests that are let pass before it.
    spared: usize,
    left: usize,
    fault: Fault,
}

impl Faults {
    /// None: a decent registry.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// For every request whose path contains `part`.
    #[must_use]
    pub fn always(self, part: &str, fault: Fault) -> Self {
        self.times(usize::MAX, part, fault)
    }

    /// For the first such request.
    #[must_use]
    pub fn once(self, part: &str, fault: Fault) -> Self {
        self.times(1, part, fault)
    }

    /// For the first `left` such requests.
    #[must_use]
    pub fn times(self, left: usize, part: &str, fault: Fault) -> Self {
        self.order(0, left, part, fault)
    }

    /// Once, after so many such requests.
    #[must_use]
    pub fn after(self, spared: usize, part: &str, fault: Fault) -> Self {
        self.order(spared, 1, part, fault)
    }

    fn order(mut self, spared: usize, left: usize, part: &str, fault: Fault) -> Self {
        // Only HEAD can be refused as HEAD.
        let method = (fault == Fault::NoHead).then_some("HEAD");
        self.0.push(Order { part: part.to_owned(), method, spared, left, fault });
        self
    }

    pub(crate) fn extend(&mut self, more: Faults) {
        self.0.extend(more.0);
    }

    /// The fault for a request, if any; counts it.
    pub(crate) fn take(&mut self, method: &str, path: &str) -> Option<Fault> {
        let fits = |order: &&mut Order| {
            order.left > 0 && path.contains(&order.part) && order.method.is_none_or(|only| only == method)
        };
        for order in self.0.iter_mut().filter(fits) {
            if order.spared == 0 {
                order.left = order.left.saturating_sub(usize::from(order.left != usize::MAX));
                return Some(order.fault.clone());
            }
            order.spared -= 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_used_up_in_turn() {
        let mut faults = Faults::none()
            .once("/blobs/", Fault::Hangup)
            .times(2, "/blobs/", Fault::NoRange)
            .always("/manifests/", Fault::NoHead)
            .after(1, "/blobs/", Fault::Silence);
        let mut take = |method, path| faults.take(method, path);
        assert_eq!(take("GET", "/v2/a/blobs/x"), Some(Fault::Hangup));
        assert_eq!(take("GET", "/v2/a/blobs/x"), Some(Fault::NoRange));
        assert_eq!(take("GET", "/v2/a/blobs/x"), Some(Fault::NoRange));
        assert_eq!(take("GET", "/v2/a/blobs/x"), None);
        assert_eq!(take("GET", "/v2/a/blobs/x"), Some(Fault::Silence));
        assert_eq!(take("GET", "/v2/a/blobs/x"), None);
        assert_eq!(take("GET", "/v2/a/manifests/x"), None);
        assert_eq!(take("HEAD", "/v2/a/manifests/x"), Some(Fault::NoHead));
        assert_eq!(take("HEAD", "/v2/a/manifests/x"), Some(Fault::NoHead));
    }
}
