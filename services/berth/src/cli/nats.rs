//! Flags that say how to reach NATS, and the command that makes its users.

use std::path::PathBuf;

use berth_bus::{NatsOptions, NatsSecurity};
use berth_config::Settings;
use clap::{Args, Subcommand};

/// Where the bus is and what proves who is who; the same as the settings below `[nats]`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "NATS")]
pub(crate) struct NatsFlags {
    /// Use the services on this NATS server; several of one cluster are separated by commas
    #[arg(long, global = true, env = "BERTH_NATS", value_name = "URL", hide_env_values = true)]
    pub(crate) nats: Option<String>,
    /// What our subjects and streams there begin with, to share a server: berth.CLUSTER.NODE [default: berth]
    #[arg(long, global = true, env = "BERTH_NATS_PREFIX", value_name = "PREFIX")]
    pub(crate) nats_prefix: Option<String>,
    /// On how many servers of a cluster new streams are: 1, 3 or 5 [default: 1]
    #[arg(long, global = true, env = "BERTH_NATS_REPLICAS", value_name = "N")]
    pub(crate) nats_replicas: Option<usize>,
    /// Believe only servers whose certificate this CA has signed (PEM)
    #[arg(long, global = true, env = "BERTH_NATS_CA", value_name = "FILE")]
    pub(crate) nats_ca: Option<PathBuf>,
    /// Our certificate (PEM), with --nats-key
    #[arg(long, global = true, env = "BERTH_NATS_CERT", value_name = "FILE")]
    pub(crate) nats_cert: Option<PathBuf>,
    /// The private key of our certificate (PEM)
    #[arg(long, global = true, env = "BERTH_NATS_KEY", value_name = "FILE")]
    pub(crate) nats_key: Option<PathBuf>,
    /// The seed of our nkey
    #[arg(long, global = true, env = "BERTH_NATS_NKEY_FILE", value_name = "FILE")]
    pub(crate) nats_nkey_file: Option<PathBuf>,
    /// The credentials of our user, as nsc writes them
    #[arg(long, global = true, env = "BERTH_NATS_CREDENTIALS_FILE", value_name = "FILE")]
    pub(crate) nats_credentials_file: Option<PathBuf>,
    /// Our name, with --nats-password-file
    #[arg(long, global = true, env = "BERTH_NATS_USER", value_name = "NAME")]
    pub(crate) nats_user: Option<String>,
    /// The password of --nats-user
    #[arg(long, global = true, env = "BERTH_NATS_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) nats_password_file: Option<PathBuf>,
}

impl NatsFlags {
    /// Lays the flags over the settings. A way to say who we are that a flag names takes the place of the file's.
    pub(crate) fn apply(&self, settings: &mut Settings) {
        let nats = &mut settings.nats;
        let put = |given: &Option<PathBuf>, setting: &mut Option<PathBuf>| {
            if given.is_some() {
                setting.clone_from(given);
            }
        };
        put(&self.nats_ca, &mut nats.ca);
        put(&self.nats_cert, &mut nats.cert);
        put(&self.nats_key, &mut nats.key);
        if self.nats_nkey_file.is_some() || self.nats_credentials_file.is_some() || self.nats_user.is_some() {
            (nats.nkey_file, nats.credentials_file, nats.user, nats.password_file) = (None, None, None, None);
        }
        put(&self.nats_nkey_file, &mut nats.nkey_file);
        put(&self.nats_credentials_file, &mut nats.credentials_file);
        put(&self.nats_password_file, &mut nats.password_file);
        if self.nats.is_some() {
            nats.url.clone_from(&self.nats);
        }
        if self.nats_user.is_some() {
            nats.user.clone_from(&self.nats_user);
        }
        if let Some(replicas) = self.nats_replicas {
            nats.replicas = replicas;
        }
        if let Some(prefix) = &self.nats_prefix {
            nats.prefix.clone_from(prefix);
        }
    }
}

/// How `role` reaches NATS by these settings.
pub(crate) fn options(settings: &Settings, url: &str, name: &str, role: &str) -> NatsOptions {
    let nats = settings.nats.clone();
    NatsOptions {
        prefix: nats.prefix,
        replicas: nats.replicas,
        role: role.to_owned(),
        security: NatsSecurity {
            ca: nats.ca,
            cert: nats.cert,
            key: nats.key,
            nkey_file: nats.nkey_file,
            credentials_file: nats.credentials_file,
            user: nats.user,
            password_file: nats.password_file,
        },
        ..NatsOptions::new(url, name)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Nats {
    /// Write users for a NATS server: a key for each service, and what it may publish and hear
    #[command(after_help = "\
Examples:
  berth nats users --out /etc/nats/berth          keys that are there already are kept
  berth nats users --out d --nats-prefix berth.prod.node-7

DIR/users.conf is for the server (`include berth/users.conf`), each DIR/NAME.nk for that service alone: give it with
--nats-nkey-file. The user `gateway` is also for commands that join the bus, `subscriber` for listeners to events.")]
    Users {
        /// Where to write them
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}
