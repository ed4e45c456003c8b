//! What an error of RocksDB means to a caller.

use std::path::Path;

use berth_model::{Code, Status};
use rocksdb::{Error, ErrorKind};

/// The status of a failed operation on the store at `path`.
pub(crate) fn status(doing: &str, path: &Path, error: &Error) -> Status {
    let text = error.to_string();
    let full = text.contains("No space left") || text.contains("Disk quota exceeded");
    let (code, remedy) = match error.kind() {
        _ if full => (Code::ResourceExhausted, "; free some space there, or point --root at a larger file system"),
        ErrorKind::Corruption => (
            Code::DataLoss,
            "; the store is damaged: put back a copy of its directory, or remove it and pull the images again",
        ),
        ErrorKind::Busy | ErrorKind::TryAgain | ErrorKind::TimedOut => (Code::Unavailable, ""),
        _ => (Code::Internal, ""),
    };
    Status::new(code, format!("{doing} the store at {}: {text}{remedy}", path.display()))
}
