//! Proves to the server who we are. The files are read again at each connection, so that renewed ones count.

use std::path::{Path, PathBuf};

use async_nats::{Auth, AuthError, ConnectOptions, ServerAddr};
use berth_model::Status;
use nkeys::KeyPair;

use super::url_credentials;
use crate::security::NatsSecurity;

/// One way to say who we are.
#[derive(Clone, Debug)]
enum Identity {
    /// An nkey; the file holds its seed.
    Nkey(PathBuf),
    /// A JWT, and the seed of the nkey it speaks of.
    Credentials(PathBuf),
    /// A name, and the file with its password.
    Password(String, PathBuf),
}

/// Options that prove who we are: by what `security` names, or else by what the URL says.
pub(super) fn options(security: &NatsSecurity, servers: &[ServerAddr]) -> Result<ConnectOptions, Status> {
    let NatsSecurity { nkey_file, credentials_file, user, password_file, .. } = security;
    let identity = match (nkey_file, credentials_file, user.as_ref().zip(password_file.as_ref())) {
        (Some(file), _, _) => Identity::Nkey(file.clone()),
        (_, Some(file), _) => Identity::Credentials(file.clone()),
        (_, _, Some((user, file))) => Identity::Password(user.clone(), file.clone()),
        (None, None, None) => return Ok(url_credentials::apply(ConnectOptions::new(), servers)),
    };
    // Before the first connection, where the error reaches a person who can do something about it.
    identity.prove(b"a first look at the files")?;
    Ok(ConnectOptions::with_auth_callback(move |nonce| {
        let proof = identity.prove(&nonce);
        async move { proof.map_err(|status| AuthError::new(status.message)) }
    }))
}

impl Identity {
    fn prove(&self, nonce: &[u8]) -> Result<Auth, Status> {
        let mut auth = Auth::new();
        match self {
            Identity::Nkey(file) => {
                let pair = key_pair(read(file)?.trim(), file)?;
                auth.nkey = Some(pair.public_key());
                auth.signature = Some(sign(&pair, nonce, file)?);
            }
            Identity::Credentials(file) => {
                let text = read(file)?;
                let part = |title| {
                    after(&text, title).ok_or_else(|| {
                        Status::invalid_argument(format!(
                            "{} is not a NATS credentials file: nothing follows `{title}`",
                            file.display()
                        ))
                    })
                };
                let pair = key_pair(part("BEGIN USER NKEY SEED")?, file)?;
                auth.jwt = Some(part("BEGIN NATS USER JWT")?.to_owned());
                auth.signature = Some(sign(&pair, nonce, file)?);
            }
            Identity::Password(user, file) => {
                auth.username = Some(user.clone());
                auth.password = Some(read(file)?.trim_end_matches(['\r', '\n']).to_owned());
            }
        }
        Ok(auth)
    }
}

/// The line after the one that has `title` in it.
fn after<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let mut lines = text.lines().skip_while(|line| !line.contains(title)).skip(1);
    lines.next().map(str::trim).filter(|line| !line.is_empty())
}

fn read(file: &Path) -> Result<String, Status> {
    std::fs::read_to_string(file).map_err(|error| Status::io("read", file, &error))
}

/// The error does not quote the seed.
fn key_pair(seed: &str, file: &Path) -> Result<KeyPair, Status> {
    KeyPair::from_seed(seed).map_err(|error| {
        Status::invalid_argument(format!(
            "{} does not hold the seed of a NATS key (SU...): {}",
            file.display(),
            error.kind().as_str()
        ))
    })
}

fn sign(pair: &KeyPair, nonce: &[u8], file: &Path) -> Result<Vec<u8>, Status> {
    pair.sign(nonce).map_err(|error| {
        Status::invalid_argument(format!(
            "the key in {} cannot sign: {}; is it a seed (SU...), not a public key?",
            file.display(),
            error.kind().as_str()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_wrong_are_named_without_their_content() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        for (identity, content) in [
            (Identity::Nkey(file.clone()), "SUHUSH"),
            (Identity::Credentials(file.clone()), "HUSH"),
            (
                Identity::Credentials(file.clone()),
                "-----BEGIN NATS USER JWT-----\nHUSH\n-----BEGIN USER NKEY SEED-----\nSUHUSH\n",
            ),
        ] {
            std::fs::write(&file, content).unwrap();
            let status = identity.prove(b"n").err().unwrap();
            assert!(status.message.contains("secret") && !status.message.contains("HUSH"), "{status}");
        }
        let missing = Identity::Password("u".into(), directory.path().join("nowhere"));
        assert!(missing.prove(b"n").err().unwrap().message.contains("nowhere"));
    }
}
