//! Commands about snapshots.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::List;

#[derive(Debug, Subcommand)]
pub(crate) enum Snapshots {
    /// List snapshots
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        list: List,
        #[command(flatten)]
        of: Snapshotter,
    },
    /// Show a snapshot
    Info {
        key: String,
        #[command(flatten)]
        of: Snapshotter,
    },
    /// Show what snapshots add: bytes on disk and files
    Usage {
        keys: Vec<String>,
        /// Bytes, not units
        #[arg(short)]
        bytes: bool,
        #[command(flatten)]
        of: Snapshotter,
    },
    /// Print the commands that mount a snapshot on a directory
    #[command(visible_aliases = ["mount", "m"])]
    Mounts {
        target: PathBuf,
        key: String,
        #[command(flatten)]
        of: Snapshotter,
    },
    /// Make a writable snapshot on a committed one
    Prepare {
        key: String,
        #[arg(default_value = "")]
        parent: String,
        /// Print the commands that mount it here
        #[arg(long, short)]
        target: Option<PathBuf>,
        #[command(flatten)]
        of: Snapshotter,
    },
    /// Make a read-only snapshot on a committed one
    View {
        key: String,
        #[arg(default_value = "")]
        parent: String,
        /// Print the commands that mount it here
        #[arg(long, short)]
        target: Option<PathBuf>,
        #[command(flatten)]
        of: Snapshotter,
    },
    /// Commit a writable snapshot under a name
    Commit {
        name: String,
        key: String,
        #[command(flatten)]
        of: Snapshotter,
    },
    /// Remove snapshots
    #[command(visible_aliases = ["delete", "del", "remove"])]
    Rm {
        #[arg(required = true)]
        keys: Vec<String>,
        #[command(flatten)]
        of: Snapshotter,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Snapshotter {
    /// The snapshotter
    #[arg(
        id = "snapshotter",
        long = "snapshotter",
        env = "BERTH_SNAPSHOTTER",
        default_value = "overlayfs",
        value_name = "NAME"
    )]
    pub(crate) name: String,
}
