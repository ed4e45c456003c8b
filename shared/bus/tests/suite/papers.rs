//! Papers for the tests of security: certificates of a CA of the test's own, and users of an operator of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair as Nkey;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

/// A CA, and the files it has written.
pub(crate) struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a test's authority");
        let key = KeyPair::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { directory, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes `NAME.pem` and `NAME-key.pem`, for a host.
    pub(crate) fn sign(&self, name: &str, host: &str) {
        self.sign_as(name, host, |_| {});
    }

    pub(crate) fn sign_as(&self, name: &str, host: &str, change: impl FnOnce(&mut CertificateParams)) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    }
}

/// What `nsc` makes: an operator, a system account, and an account with JetStream whose users it signs.
pub(crate) struct Operator {
    account: Nkey,
    config: String,
}

impl Operator {
    pub(crate) fn new() -> Self {
        let (operator, account, system) = (Nkey::new_operator(), Nkey::new_account(), Nkey::new_account());
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
            "mem_storage": 1 << 30, "disk_storage": 1 << 30, "streams": -1, "consumer": -1,
        });
        let of_operator = token(&operator, &operator, json!({"type": "operator", "version": 2}), None);
        let of_account = token(&operator, &account, json!({"limits": limits, "type": "account", "version": 2}), None);
        let mut plain = limits;
        for name in ["mem_storage", "disk_storage", "streams", "consumer"] {
            plain.as_object_mut().unwrap().remove(name);
        }
        let of_system = token(&operator, &system, json!({"limits": plain, "type": "account", "version": 2}), None);
        let config = format!(
            "operator: {of_operator}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n  {}: {of_account}\n  {}: {of_system}\n}}\n",
            system.public_key(),
            account.public_key(),
            system.public_key(),
        );
        Self { account, config }
    }

    /// The configuration of a server that believes it.
    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    /// Writes the credentials file of a new user, which ends after `life`; or an hour ago, if that is zero.
    pub(crate) fn write_user(&self, file: &Path, life: Duration) {
        let end = if life.is_zero() { now() - 3600 } else { now() + life.as_secs() };
        let user = Nkey::new_user();
        let claims = json!({"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2});
        let token = token(&self.account, &user, claims, Some(end));
        let seed = user.seed().unwrap();
        fs::write(
            file,
            format!(
                "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
            ),
        )
        .unwrap();
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A JWT as nats-server reads it.
fn token(issuer: &Nkey, subject: &Nkey, nats: Value, expires: Option<u64>) -> String {
    let mut claims = json!({
        "jti": subject.public_key(), "iat": now() - 7200, "iss": issuer.public_key(), "name": "test", "sub": subject.public_key(),
        "nats": nats,
    });
    if let Some(expires) = expires {
        claims.as_object_mut().unwrap().insert("exp".into(), json!(expires));
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(&claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
