//! TLS with rustls and ring, given explicitly: no process-wide default is read or set, so two nodes in one process and
//! other users of rustls do not meet here.

use std::sync::Arc;

use berth_model::Status;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// For hosts elsewhere: the system's certificates (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), or Mozilla's as they
/// were at build time where the system has none, as in an image made `FROM scratch`.
pub(crate) fn verifying() -> Result<ClientConfig, Status> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "a system certificate could not be read");
    }
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        tracing::debug!("the system has no certificates; using the built-in ones");
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    }
    Ok(builder()?.with_root_certificates(roots).with_no_client_auth())
}

/// For loopback hosts: nobody signs certificates for `localhost`, and nobody sits in between. containerd does the same.
pub(crate) fn trusting() -> Result<ClientConfig, Status> {
    let provider = Arc::new(ring::default_provider());
    Ok(builder()?.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth())
}

/// The same, and what is said of HTTP when a connection begins (ALPN, RFC 7301).
pub(crate) fn speaking(mut config: ClientConfig, versions: &[&str]) -> ClientConfig {
    config.alpn_protocols = versions.iter().map(|version| version.as_bytes().to_vec()).collect();
    config
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Status> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Status::internal(format!("TLS: {error}")))
}

/// Accepts any certificate; signatures are checked all the same, as TLS wants.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
