//! Encryption of the connection: which servers are believed, and the certificate we show. Only ring does cryptography here.
//!
//! The files are looked at before the first connection, so that a wrong one is named; async-nats reads them again at each
//! connection, so that renewed ones count.

use std::path::Path;

use async_nats::ConnectOptions;
use berth_model::Status;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::security::NatsSecurity;

/// Adds what `security` says to the options.
pub(super) fn apply(mut options: ConnectOptions, security: &NatsSecurity) -> Result<ConnectOptions, Status> {
    if rustls::crypto::CryptoProvider::get_default().is_none()
        && rustls::crypto::ring::default_provider().install_default().is_err()
    {
        tracing::debug!("the provider of cryptography was chosen by another thread meanwhile");
    }
    if let Some(ca) = &security.ca {
        certificates(ca)?;
        options = options.add_root_certificates(ca.clone());
    }
    if let (Some(cert), Some(key)) = (&security.cert, &security.key) {
        let chain = certificates(cert)?;
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, "private key", &error))?;
        rustls::sign::CertifiedKey::from_der(chain, secret, &rustls::crypto::ring::default_provider()).map_err(
            |error| {
                Status::invalid_argument(format!(
                    "the key {} does not belong to the certificate {}: {error}",
                    key.display(),
                    cert.display()
                ))
            },
        )?;
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(options.require_tls(security.wants_tls()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Status> {
    let all = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(file, "certificate", &error))?;
    if all.is_empty() {
        return Err(Status::invalid_argument(format!("{} holds no certificate in PEM form", file.display())));
    }
    Ok(all)
}

fn unreadable(file: &Path, what: &str, error: &rustls::pki_types::pem::Error) -> Status {
    match error {
        rustls::pki_types::pem::Error::Io(error) => Status::io("read", file, error),
        other => Status::invalid_argument(format!("{} holds no {what} in PEM form: {other}", file.display())),
    }
}
