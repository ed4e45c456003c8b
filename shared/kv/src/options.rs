//! How a store is opened.

/// What an acknowledged write has survived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The log was flushed to the disk: it survives a power cut.
    #[default]
    Synced,
    /// The log was handed to the kernel: it survives the process, not the machine. For scratch machines.
    None,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// What an acknowledged write has survived.
    pub durability: Durability,
    /// The names of all tables. Each is there, if only empty.
    pub tables: &'static [&'static str],
    /// What this process is, for the message a second opener gets: `berth serve`.
    pub holder: String,
}
