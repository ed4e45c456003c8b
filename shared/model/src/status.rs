//! The one error that crosses a contract: a code the caller can act on, and a message a person can act on.

use std::fmt;

/// What a caller can decide upon. The set is closed and is gRPC's, because containerd's clients branch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// The thing named does not exist.
    NotFound,
    /// The thing to be made exists.
    AlreadyExists,
    /// The request can never succeed as it is.
    InvalidArgument,
    /// The system is not in the state the request needs (wrong digest, child present, not root).
    FailedPrecondition,
    /// Passing: try again later.
    Unavailable,
    /// Not offered here.
    Unimplemented,
    /// An offset past the end.
    OutOfRange,
    /// Stored bytes are damaged.
    DataLoss,
    /// Lost a race; the whole operation may be tried again.
    Aborted,
    /// The caller went away.
    Cancelled,
    /// The time given ran out.
    DeadlineExceeded,
    /// Known, and not allowed.
    PermissionDenied,
    /// Not known who asks.
    Unauthenticated,
    /// Disk, memory, quota or rate limit is used up.
    ResourceExhausted,
    /// A fault of ours.
    Internal,
    /// Anything else.
    Unknown,
}

const CODES: &[(Code, i32, &str)] = &[
    (Code::Cancelled, 1, "cancelled"),
    (Code::Unknown, 2, "unknown"),
    (Code::InvalidArgument, 3, "invalid argument"),
    (Code::DeadlineExceeded, 4, "deadline exceeded"),
    (Code::NotFound, 5, "not found"),
    (Code::AlreadyExists, 6, "already exists"),
    (Code::PermissionDenied, 7, "permission denied"),
    (Code::ResourceExhausted, 8, "resource exhausted"),
    (Code::FailedPrecondition, 9, "failed precondition"),
    (Code::Aborted, 10, "aborted"),
    (Code::OutOfRange, 11, "out of range"),
    (Code::Unimplemented, 12, "not implemented"),
    (Code::Internal, 13, "internal"),
    (Code::Unavailable, 14, "unavailable"),
    (Code::DataLoss, 15, "data loss"),
    (Code::Unauthenticated, 16, "unauthenticated"),
];

impl Code {
    /// gRPC's number of the code (<https://grpc.io/docs/guides/status-codes/>).
    #[must_use]
    pub fn number(self) -> i32 {
        CODES.iter().find(|row| row.0 == self).map_or(2, |row| row.1)
    }

    /// The code of a gRPC number; numbers not known become [`Code::Unknown`].
    #[must_use]
    pub fn from_number(number: i32) -> Self {
        CODES.iter().find(|row| row.1 == number).map_or(Code::Unknown, |row| row.0)
    }

    /// The words for it.
    #[must_use]
    pub fn words(self) -> &'static str {
        CODES.iter().find(|row| row.0 == self).map_or("unknown", |row| row.2)
    }

    /// Whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_passing(self) -> bool {
        matches!(self, Code::Unavailable | Code::Aborted | Code::DeadlineExceeded)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// An error as it crosses a contract. The message names the thing, the place and, where there is one, the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// What the caller can decide upon.
    pub code: Code,
    /// What a person reads. Never holds a secret.
    pub message: String,
}

macro_rules! constructors {
    ($($name:ident => $code:ident),* $(,)?) => {
        $(
            #[doc = concat!("A status with [`Code::", stringify!($code), "`].")]
            #[must_use]
            pub fn $name(message: impl Into<String>) -> Self {
                Self::new(Code::$code, message)
            }
        )*
    };
}

impl Status {
    /// A status of any code.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    constructors! {
        not_found => NotFound,
        already_exists => AlreadyExists,
        invalid_argument => InvalidArgument,
        failed_precondition => FailedPrecondition,
        unavailable => Unavailable,
        unimplemented => Unimplemented,
        out_of_range => OutOfRange,
        data_loss => DataLoss,
        aborted => Aborted,
        cancelled => Cancelled,
        deadline_exceeded => DeadlineExceeded,
        permission_denied => PermissionDenied,
        unauthenticated => Unauthenticated,
        resource_exhausted => ResourceExhausted,
        internal => Internal,
    }

    /// The same status, its message led by what was being done.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// What an I/O error on `path` means to a caller. `doing` is the verb phrase before the path ("write", "make directory").
    #[must_use]
    pub fn io(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let code = match error.kind() {
            K::NotFound => Code::NotFound,
            K::PermissionDenied | K::ReadOnlyFilesystem => Code::PermissionDenied,
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => Code::ResourceExhausted,
            _ => Code::Internal,
        };
        let remedy = match code {
            Code::ResourceExhausted => "; free some space there, or point --root at a larger file system",
            _ => "",
        };
        Self::new(code, format!("{doing} {}: {error}{remedy}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_there_and_back() {
        for (code, number, _) in CODES {
            assert_eq!(Code::from_number(*number), *code);
            assert_eq!(code.number(), *number);
        }
        assert_eq!(Code::from_number(99), Code::Unknown);
    }

    #[test]
    fn a_full_disk_is_named_and_has_a_remedy() {
        let error = std::io::Error::from_raw_os_error(28);
        let status = Status::io("write", std::path::Path::new("/x/y"), &error);
        assert_eq!(status.code, Code::ResourceExhausted);
        assert!(status.message.contains("/x/y") && status.message.contains("free some space"), "{status}");
    }
}
