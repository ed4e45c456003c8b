//! Requests that got no answer: what went wrong, sorted by what can be done about it.

use std::{error::Error, fmt, io};

use berth_model::{Code, Status};
use http::StatusCode;
use url::Url;

use crate::{
    dns::LookupError,
    errand::authority,
    numbers,
    retry::{Judgement, judge},
};

/// What can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Nobody listens there.
    Refused,
    /// The name has no address.
    UnknownHost,
    /// No connection, in time or at all.
    Unreachable,
    /// TLS was tried and the other end does not speak it.
    NotTls,
    /// The other end speaks TLS and its certificate is not trusted.
    Certificate,
    /// The connection broke, or the answer made no sense.
    Broken,
    /// No answer in time.
    Silent,
    /// Redirected without end, or to nowhere.
    Redirect,
    /// A part of a blob was asked for, and not served; the answer had this status.
    Piece(StatusCode),
}

impl FailureKind {
    /// As a cause, in numbers.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::UnknownHost => "unknown host",
            Self::Unreachable => "unreachable",
            Self::NotTls => "no TLS",
            Self::Certificate => "certificate",
            Self::Broken => "broken",
            Self::Silent => "silent",
            Self::Redirect => "redirect",
            Self::Piece(status) if judge(status) == Judgement::Settled => "piece",
            Self::Piece(status) => numbers::cause(status.as_u16()),
        }
    }
}

/// A request without an answer, or a body without an end. Holds no URL beyond host and port.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// `host:port`.
    pub(crate) host: String,
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, url: &Url, detail: impl Into<String>) -> Self {
        Self { kind, host: authority(url), detail: detail.into() }
    }

    /// Sorts an error of reqwest.
    pub(crate) fn of(url: &Url, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let kind = classify(&error);
        Self::new(kind, url, story(&error))
    }

    /// Whether another try may help.
    pub(crate) fn is_passing(&self) -> bool {
        !matches!(self.kind, FailureKind::NotTls | FailureKind::Certificate | FailureKind::Redirect)
    }

    /// Whether what let us in may have run out: a token, or the address that was signed for a while.
    pub(crate) fn is_stale(&self) -> bool {
        let FailureKind::Piece(status) = self.kind else { return false };
        matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
    }

    /// What a caller is told when no more tries are left. `doing` names the object.
    pub(crate) fn status(&self, doing: &impl fmt::Display) -> Status {
        let host = &self.host;
        let detail = &self.detail;
        let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _port)| name);
        let (code, text) = match self.kind {
            FailureKind::Refused => (
                Code::Unavailable,
                format!("connection to {host} was refused; check the port, and that the registry runs"),
            ),
            FailureKind::UnknownHost => (
                Code::Unavailable,
                format!("unknown host {name}: check the spelling, or this machine's resolver ({detail})"),
            ),
            FailureKind::Unreachable => (
                Code::Unavailable,
                format!(
                    "no connection to {host} ({detail}); check the network, or the proxy settings (HTTPS_PROXY, NO_PROXY)"
                ),
            ),
            FailureKind::NotTls => (
                Code::FailedPrecondition,
                format!("{host} does not speak HTTPS; if it is meant to speak plain HTTP, give --plain-http"),
            ),
            FailureKind::Certificate => (
                Code::FailedPrecondition,
                format!(
                    "the certificate of {host} is not trusted ({detail}); add its CA to the system's certificates, or name a file with it in SSL_CERT_FILE"
                ),
            ),
            FailureKind::Broken => {
                (Code::Unavailable, format!("the connection to {host} broke ({detail}); try again later"))
            }
            FailureKind::Silent | FailureKind::Piece(_) => {
                (Code::Unavailable, format!("{host} {detail}; try again later"))
            }
            FailureKind::Redirect => (Code::FailedPrecondition, format!("{host}: {detail}")),
        };
        Status::new(code, format!("{doing}: {text}"))
    }
}

/// Looks for the innermost cause with a type of its own.
fn classify(error: &reqwest::Error) -> FailureKind {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(lookup) = error.downcast_ref::<LookupError>() {
            tracing::trace!(%lookup, "lookup failed");
            return FailureKind::UnknownHost;
        }
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return of_tls(tls);
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            if let Some(tls) = tls_within(io) {
                return of_tls(tls);
            }
            match io.kind() {
                io::ErrorKind::ConnectionRefused => return FailureKind::Refused,
                io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::AddrNotAvailable => {
                    return FailureKind::Unreachable;
                }
                _ => {}
            }
        }
        cause = error.source();
    }
    match (error.is_connect(), error.is_timeout()) {
        (true, true) => FailureKind::Unreachable,
        (false, true) => FailureKind::Silent,
        _ => FailureKind::Broken,
    }
}

/// An I/O error's `source` is not what it wraps but the source of that; and the TLS layers wrap each other's.
fn tls_within(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref::<rustls::Error>().or_else(|| tls_within(inner.downcast_ref::<io::Error>()?))
}

fn of_tls(error: &rustls::Error) -> FailureKind {
    match error {
        rustls::Error::InvalidMessage(_) => FailureKind::NotTls,
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => FailureKind::Certificate,
        _ => FailureKind::Broken,
    }
}

/// The chain of causes in one line, each said once.
fn story(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        cause = error.source();
    }
    if parts.is_empty() {
        parts.push(error.to_string());
    }
    // The innermost cause says it best; what is around it is mostly "client error".
    let story: String = parts.pop().unwrap_or_default();
    story.chars().filter(|c| !c.is_control()).take(200).collect()
}
