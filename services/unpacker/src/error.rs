//! Why a layer cannot be applied, and what that is to a caller.

use std::{io, path::Path};

use berth_model::{Code, Status};

/// Why a layer cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The layer is malformed, or tries what no layer may.
    #[error("entry {entry:?}: {reason}")]
    Hostile {
        /// The name of the entry, as it stands in the layer.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The stream is damaged.
    #[error("{0}")]
    Damaged(String),
    /// The system refused.
    #[error("entry {entry:?}: {doing}: {source}{remedy}")]
    Refused {
        /// The name of the entry, as it stands in the layer.
        entry: String,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
        /// What would help, led by "; "; or nothing.
        remedy: &'static str,
    },
    /// The source of the bytes failed; its own words.
    #[error("{0}")]
    Source(Status),
    /// Nobody wants it any more.
    #[error("unpacking was cancelled")]
    Cancelled,
}

impl ApplyError {
    pub(crate) fn hostile(entry: &[u8], reason: impl Into<String>) -> Self {
        Self::Hostile { entry: shown(entry), reason: reason.into() }
    }

    pub(crate) fn refused(entry: &[u8], doing: &'static str, error: impl Into<io::Error>) -> Self {
        let source = error.into();
        let remedy = match source.kind() {
            io::ErrorKind::PermissionDenied => "; run as root (CAP_CHOWN, CAP_MKNOD, CAP_SETFCAP and CAP_DAC_OVERRIDE)",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "; free some space there, or point --root at a larger file system"
            }
            _ => "",
        };
        Self::Refused { entry: shown(entry), doing, source, remedy }
    }

    /// As a status of the contract.
    #[must_use]
    pub fn status(&self, layer: &str, target: &Path) -> Status {
        let code = match self {
            Self::Hostile { .. } | Self::Damaged(_) => Code::InvalidArgument,
            Self::Cancelled => Code::Cancelled,
            Self::Source(status) => return status.clone(),
            Self::Refused { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::ResourceExhausted,
                io::ErrorKind::PermissionDenied => Code::PermissionDenied,
                // The layer's doing: no file system has room for such a name.
                io::ErrorKind::InvalidFilename => Code::InvalidArgument,
                _ => Code::Internal,
            },
        };
        match self {
            Self::Refused { .. } => {
                Status::new(code, format!("unpack layer {layer} into {}: {self}", target.display()))
            }
            _ => Status::new(code, format!("layer {layer}: {self}")),
        }
    }
}

/// A name as it can be shown: no control characters, not endless.
pub(crate) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut short: String = text.chars().take(200).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
