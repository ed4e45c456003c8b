//! `berth nats users`: a key for each service, and what the NATS server shall permit it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::Context as _;
use berth_bus::UserKey;

use crate::{
    cli::{Global, Nats},
    client, output, roles,
};

pub(crate) fn run(global: &Global, Nats::Users { out }: &Nats) -> anyhow::Result<()> {
    let prefix = client::settings(global)?.nats.prefix;
    let roles = roles::all();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(out)
        .with_context(|| format!("make the directory {}", out.display()))?;
    let mut public = Vec::new();
    for role in &roles {
        public.push(key(&out.join(format!("{}.nk", role.name)))?);
    }
    let users = berth_bus::users_conf(&prefix, &roles, &public)?;
    let file = out.join("users.conf");
    let text = format!(
        "# Users of a NATS server for Berth, subjects below `{prefix}`. Written by `berth nats users`; write it again after an\n\
         # upgrade. To be included in an account: accounts {{ BERTH {{ jetstream: enabled, include users.conf }} }}\n{users}"
    );
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    Ok(output::print(&format!("{}\n", file.display()))?)
}

/// The public key of the seed in a file, which is made if it is not there.
fn key(file: &Path) -> anyhow::Result<String> {
    if file.exists() {
        let seed = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        return Ok(UserKey::from_seed(&seed).with_context(|| file.display().to_string())?.public);
    }
    let key = UserKey::generate()?;
    let mut options = fs::OpenOptions::new();
    let mut made = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("make {}", file.display()))?;
    writeln!(made, "{}", key.seed).with_context(|| format!("write {}", file.display()))?;
    Ok(key.public)
}
