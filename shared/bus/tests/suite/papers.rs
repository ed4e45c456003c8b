//! Papers for the tests of security: certificates of a CA of the test's own, and users of an operator of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth_bus::{Call as _, Job as _, NatsSecurity, Role, UserKey, users_conf};
use nkeys::KeyPair as Nkey;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::messages::{Ask, Count, Filled, WatchNews};

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

/// What a secured server of the suite knows: its certificate, and for each prefix a user who may do what the suite does
/// there, and nothing else.
pub(crate) struct Keyring {
    authority: Authority,
}

impl Keyring {
    /// The prefixes of the suite.
    const PREFIXES: [&str; 2] = ["berth", "other"];
    /// It is caller and service in one.
    pub(crate) const ROLE: &str = "oracle";

    pub(crate) fn new() -> Self {
        let authority = Authority::new();
        authority.sign("server", "127.0.0.1");
        for prefix in Self::PREFIXES {
            fs::write(authority.path(prefix), UserKey::generate().unwrap().seed).unwrap();
        }
        Self { authority }
    }

    /// The configuration of a server, with limits of the account for JetStream (`enabled`) and what else it shall have.
    pub(crate) fn config(&self, jetstream: &str, more: &str) -> PathBuf {
        let role = Role {
            name: Self::ROLE,
            calls: vec![Ask::SUBJECT, WatchNews::SUBJECT],
            works: vec![Count::KIND, Filled::KIND],
            submits: vec![Count::KIND, Filled::KIND],
            publishes: true,
            subscribes: true,
            undertakes: true,
        };
        let path = |name| self.authority.path(name).display().to_string();
        let mut text = format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\" }}\n{more}\naccounts {{\n",
            path("server.pem"),
            path("server-key.pem")
        );
        for prefix in Self::PREFIXES {
            let seed = fs::read_to_string(self.authority.path(prefix)).unwrap();
            let public = UserKey::from_seed(&seed).unwrap().public;
            let users = users_conf(prefix, std::slice::from_ref(&role), &[public]).unwrap();
            text += &format!("{} {{ jetstream: {jetstream}\n{users} }}\n", prefix.to_uppercase());
        }
        let file = self.authority.path("nats.conf");
        fs::write(&file, text + "}\n").unwrap();
        file
    }

    pub(crate) fn security(&self, prefix: &str) -> NatsSecurity {
        NatsSecurity {
            ca: Some(self.authority.path("ca.pem")),
            nkey_file: Some(self.authority.path(prefix)),
            ..NatsSecurity::default()
        }
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
