//! What a connection that did not come about means: try again, or tell a person why it never will.

use std::error::Error;
use std::path::Path;

use async_nats::{ConnectError, ConnectErrorKind};
use berth_model::Status;
use rustls::{AlertDescription, CertificateError};

use crate::security::NatsSecurity;

/// The final reason, or `None` if the next try may do better.
pub(super) fn of(error: &ConnectError, url: &str, security: &NatsSecurity) -> Option<Status> {
    if let Some(tls) = tls_error(error)
        && let Some(status) = of_tls(tls, url, security)
    {
        return Some(status);
    }
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            Some(unauthenticated(url, security))
        }
        ConnectErrorKind::ServerParse => {
            Some(Status::invalid_argument(format!("{url:?} is not a NATS URL; it looks like nats://host:4222")))
        }
        ConnectErrorKind::Tls => Some(Status::failed_precondition(format!(
            "no encrypted connection to the NATS server at {url}: {}",
            reason(error)
        ))),
        // The server's own words: an expired user, a certificate it wants, too many connections.
        ConnectErrorKind::Io => {
            let text = reason(error).to_lowercase();
            if text.contains("expired") || text.contains("revoked") {
                return Some(unauthenticated(url, security));
            }
            None
        }
        _ => None,
    }
}

/// Who the server does not know.
fn unauthenticated(url: &str, security: &NatsSecurity) -> Status {
    let shown = |file: &Path| file.display().to_string();
    let what = if let Some(file) = &security.nkey_file {
        format!("the nkey in {}; is its public key one of the server's users?", shown(file))
    } else if let Some(file) = &security.credentials_file {
        format!("the credentials in {}; have they expired, or were they revoked?", shown(file))
    } else if let (Some(user), Some(file)) = (&security.user, &security.password_file) {
        format!("the user {user} with the password in {}", shown(file))
    } else {
        "the credentials given, or the lack of them (give an nkey_file, a credentials_file, or a user with a \
         password_file; or nats://user:password@host)"
            .to_owned()
    };
    Status::unauthenticated(format!("the NATS server at {url} does not accept {what}"))
}

fn of_tls(error: &rustls::Error, url: &str, security: &NatsSecurity) -> Option<Status> {
    let server = format!("the certificate of the NATS server at {url}");
    let text = match error {
        // A CA that was made anew has the same name and another key.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            match &security.ca {
                Some(ca) => format!("{server} was not signed by the CA in {}", ca.display()),
                None => format!("{server} was not signed by a CA that this system trusts; name its CA with --nats-ca"),
            }
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("{server} is not for that host name"),
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            format!("{server} has expired")
        }
        rustls::Error::InvalidCertificate(why) => format!("{server} is not valid: {why}"),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("the NATS server at {url} wants a client certificate; give --nats-cert and --nats-key")
        }
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate),
        ) => match &security.cert {
            Some(cert) => {
                format!("the NATS server at {url} does not accept the certificate in {} ({alert:?})", cert.display())
            }
            None => format!("the NATS server at {url} wants a client certificate; give --nats-cert and --nats-key"),
        },
        rustls::Error::InvalidMessage(_) => {
            format!(
                "what answers at {url} does not speak TLS; leave out --nats-ca and --nats-cert, or set up TLS there"
            )
        }
        _ => return None,
    };
    Some(Status::failed_precondition(text))
}

/// The error of the encryption below others, if there is one.
fn tls_error(error: &ConnectError) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An I/O error hides what is in it from `source`.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The innermost words.
pub(super) fn reason(error: &ConnectError) -> String {
    let mut innermost: &(dyn Error + 'static) = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
