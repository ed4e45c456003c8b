//! Settings: built-in ones, then the file, then the environment (`BERTH_*`), then flags. Read raw, checked once.

mod duration;
mod events;
mod gc;
mod nats;
mod pulls;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use berth_model::Status;
use figment::{
    Figment,
    providers::{Env, Format as _, Serialized, Toml},
};

pub use events::{EventEncoding, Events};
pub use gc::Gc;
pub use nats::Nats;
pub use pulls::Pulls;

/// Where the file is looked for when nobody names one.
pub const DEFAULT_FILE: &str = "/etc/berth/config.toml";

/// All settings of a node.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where everything is kept.
    pub root: PathBuf,
    /// The snapshotter used when a command names none.
    pub snapshotter: String,
    /// "synced": what was acknowledged survives a power cut. "none": only a crash of the process; for scratch machines.
    pub durability: Durability,
    /// Whether a namespace gets a blob that another one has without its bytes being sent: "shared" to whoever knows the digest,
    /// "isolated" only from namespaces with the label `containerd.io/namespace.shareable=true`.
    pub content_sharing: ContentSharing,
    /// Blobs fetched at once; small ones overtake large ones.
    pub fetch_jobs: Option<usize>,
    /// Layers unpacked at once; the default follows the number of cores.
    pub unpack_jobs: Option<usize>,
    /// What is unpacked of large files (8 MiB): "auto" writes them past the page cache where the disk is fast, "cached" never.
    pub large_files: LargeFiles,
    /// How overlays are mounted, and their snapshots told and removed.
    pub overlayfs: Overlayfs,
    /// How long a lease lasts that nobody ends: of pulls, and of those made without an end of their own.
    #[serde(with = "duration")]
    pub lease_expiration: Duration,
    /// Collection.
    pub gc: Gc,
    /// What subscribers on NATS get.
    pub events: Events,
    /// Many pulls at once.
    #[serde(default)]
    pub pulls: Pulls,
    /// Who may talk to the daemon.
    pub socket: Socket,
    /// The bus between processes.
    pub nats: Nats,
}

/// Access to the daemon's socket. Not for one that systemd made: its unit says it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Socket {
    /// Octal digits; empty for 0660.
    pub mode: String,
    /// A name or a number; empty for the user of the daemon.
    pub owner: String,
    /// A name or a number; empty for the group of the daemon.
    pub group: String,
}

/// Settings of the overlayfs snapshotter, named as containerd names them.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overlayfs {
    /// Options for every overlay; `index=off` is added where the kernel knows it, unless `index` is given here.
    pub mount_options: Vec<String>,
    /// Tell each snapshot's upper directory, as the label containerd.io/snapshot/overlay.upperdir.
    pub upperdir_label: bool,
    /// A removal erases the directory before it answers.
    pub sync_remove: bool,
}

impl Overlayfs {
    /// What no overlay can be mounted with: these the snapshotter says itself.
    const OURS: [&str; 4] = ["lowerdir", "lowerdir+", "upperdir", "workdir"];

    fn check(&self) -> Result<(), Status> {
        for option in &self.mount_options {
            let name = option.split('=').next().unwrap_or_default();
            if name.is_empty() || Self::OURS.contains(&name) || option.contains(',') {
                return Err(Status::invalid_argument(format!(
                    "configuration: overlayfs.mount_options: {option:?} cannot be one; each is one option, and \
                     directories are not among them"
                )));
            }
        }
        Ok(())
    }
}

/// What an acknowledged write has survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A power cut.
    Synced,
    /// The end of the process.
    None,
}

/// Where large files are after a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LargeFiles {
    /// On the disk, if it is fast; otherwise in memory too.
    Auto,
    /// Also in memory.
    Cached,
}

/// What namespaces may have of one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentSharing {
    /// Blobs, by their digests.
    Shared,
    /// Nothing, unless one is labelled to lend.
    Isolated,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/var/lib/berth"),
            snapshotter: "overlayfs".to_owned(),
            durability: Durability::Synced,
            content_sharing: ContentSharing::Shared,
            fetch_jobs: None,
            unpack_jobs: None,
            large_files: LargeFiles::Auto,
            overlayfs: Overlayfs::default(),
            lease_expiration: Duration::from_secs(24 * 60 * 60),
            gc: Gc::default(),
            events: Events::default(),
            pulls: Pulls::default(),
            socket: Socket::default(),
            nats: Nats::default(),
        }
    }
}

impl Settings {
    /// Reads the settings. A file that is named must be there; the usual one need not.
    pub fn read(file: Option<&Path>) -> Result<Self, Status> {
        let wanted = file.unwrap_or(Path::new(DEFAULT_FILE));
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if wanted.exists() {
            figment = figment.merge(Toml::file_exact(wanted));
        } else if file.is_some() {
            return Err(Status::not_found(format!("the configuration file {} is not there", wanted.display())));
        }
        // Only these: BERTH_ADDRESS and others are read by the command line itself.
        let known = [
            "root",
            "snapshotter",
            "durability",
            "content_sharing",
            "fetch_jobs",
            "unpack_jobs",
            "large_files",
            "lease_expiration",
        ];
        let settings: Self = figment
            .merge(Env::prefixed("BERTH_").only(&known))
            .extract()
            .map_err(|error| Status::invalid_argument(format!("configuration: {error}")))?;
        settings.checked()
    }

    fn checked(self) -> Result<Self, Status> {
        for (name, jobs) in [("fetch_jobs", self.fetch_jobs), ("unpack_jobs", self.unpack_jobs)] {
            if jobs.is_some_and(|jobs| !(1..=1024).contains(&jobs)) {
                return Err(Status::invalid_argument(format!("configuration: {name} must be 1 to 1024")));
            }
        }
        if let Some(fault) = self.gc.fault() {
            return Err(Status::invalid_argument(format!("configuration: {fault}")));
        }
        if let Some(fault) = self.pulls.fault() {
            return Err(Status::invalid_argument(format!("configuration: {fault}")));
        }
        if self.lease_expiration < Duration::from_secs(1) {
            return Err(Status::invalid_argument("configuration: lease_expiration must be at least 1s"));
        }
        self.overlayfs.check()?;
        if self.root.as_os_str().is_empty() {
            return Err(Status::invalid_argument("configuration: root must not be empty"));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn read(text: &str) -> Result<Settings, Status> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, text).unwrap();
        Settings::read(Some(&file))
    }

    #[test]
    fn what_is_said_counts_and_what_is_misspelt_is_refused() {
        let settings = read("root = \"/x\"\ndurability = \"none\"\n").unwrap();
        assert_eq!((settings.root, settings.durability), (PathBuf::from("/x"), Durability::None));
        let settings = read("[overlayfs]\nmount_options = [\"volatile\"]\nupperdir_label = true\n").unwrap();
        let overlayfs = Overlayfs { mount_options: vec!["volatile".into()], upperdir_label: true, sync_remove: false };
        assert_eq!(settings.overlayfs, overlayfs);
        let gc = read("[gc]\ninterval = \"90s\"\n").unwrap().gc;
        assert_eq!(gc, Gc { interval: Duration::from_secs(90), ..Gc::default() });
        let nats = read("[nats]\nurl = \"tls://h\"\nnkey_file = \"/n\"\n").unwrap().nats;
        assert_eq!(nats, Nats { url: Some("tls://h".into()), nkey_file: Some("/n".into()), ..Nats::default() });
        for (text, named) in [
            ("rooot = \"/x\"", "rooot"),
            ("durability = \"some\"", "some"),
            ("large_files = \"fast\"", "fast"),
            ("fetch_jobs = 0", "fetch_jobs"),
            ("[overlayfs]\nmount_option = []", "mount_option"),
            ("[overlayfs]\nmount_options = [\"upperdir=/x\"]", "upperdir=/x"),
            ("[overlayfs]\nmount_options = [\"a,b\"]", "a,b"),
            ("lease_expiration = \"soon\"", "soon"),
            ("lease_expiration = \"0s\"", "lease_expiration"),
            ("[gc]\npause_threshold = 0.9", "pause_threshold"),
            ("[pulls]\nunpacks = 0", "pulls.unpacks"),
            ("[pulls]\nconnections_per_layer = 5", "pulls.connections_per_layer"),
            ("[gc]\nstartup_dealy = \"1s\"", "startup_dealy"),
            ("[events]\nencoding = \"xml\"", "xml"),
            ("[nats]\npassword = \"x\"", "password"),
            ("x", "config.toml"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message.contains(named), "{error}");
        }
        assert!(Settings::read(Some(Path::new("/nowhere/x.toml"))).unwrap_err().message.contains("/nowhere/x.toml"));
    }
}
