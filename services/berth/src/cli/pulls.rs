//! Pulls that run or ran, as commands.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

/// Which share of the work a pull gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Priority {
    Low,
    Normal,
    High,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  berth pulls ls                        what runs
  berth pulls watch                     the same, live
  berth pulls attach 3fa1               wait for one, by the beginning of its id; its exit code is the pull's
  berth pulls cancel alpine:3.20        by its reference
  berth pulls explain alpine:3.20       why it took as long as it did

A pull ends when the last one who waits for it leaves; one that was begun with --detach goes on.")]
pub(crate) enum Pulls {
    /// List pulls
    #[command(visible_alias = "list")]
    Ls {
        /// Also those that are over
        #[arg(long)]
        all: bool,
        /// Of all namespaces
        #[arg(long)]
        all_namespaces: bool,
        /// Print only the ids
        #[arg(long, short)]
        quiet: bool,
        /// Print JSON, an object on a line
        #[arg(long, conflicts_with = "quiet")]
        json: bool,
    },
    /// Show all pulls, live, until interrupted
    Watch {
        /// Of all namespaces
        #[arg(long)]
        all_namespaces: bool,
        /// Print all of them whenever something changed, as a JSON object on a line
        #[arg(long)]
        json: bool,
    },
    /// Wait for a pull with whoever waits for it, and show its progress
    Attach {
        /// Its id, the beginning of it, or its reference
        pull: String,
        /// Print each state as a JSON object on a line of its own
        #[arg(long)]
        json: bool,
        /// Print only the image's digest
        #[arg(long, short, conflicts_with = "json")]
        quiet: bool,
    },
    /// Say where the time of a pull went
    Explain {
        /// Its id, the beginning of it, or its reference
        pull: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Write a waterfall of its blobs here
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Cancel pulls, whoever waits for them; what was fetched is kept for an hour
    Cancel {
        /// Ids, beginnings of ids, or references
        #[arg(required = true)]
        pulls: Vec<String>,
    },
}
