//! One process holds a store: a lock on a file in it, which also says who.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use berth_model::{Code, Status};
use rustix::fs::{FlockOperation, flock};

use crate::{format, layout::Layout};

const FILE: &str = "HOLDER";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(serde::Serialize, serde::Deserialize)]
struct Holder {
    pid: u32,
    holder: String,
    /// The start of the machine in which it held the store.
    #[serde(default)]
    boot: String,
}

/// Keeps the lock until it is dropped; the kernel drops it with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Hold {
    _file: File,
    /// The store was held before in this start of the machine: since then no power cut can have torn what was written.
    pub(crate) same_boot: bool,
    /// The kernel's id of this start of the machine; empty if it is not known.
    pub(crate) boot: String,
    pub(crate) layout: Layout,
}

impl Hold {
    /// Makes the directory if need be, takes the lock, and checks that the store is of a format we know.
    pub(crate) fn take(dir: &Path, holder: &str) -> Result<Self, Status> {
        fs::create_dir_all(dir).map_err(|error| unusable("make", dir, &error))?;
        let path = dir.join(FILE);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| unusable("write to", dir, &error))?;
        if let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            return Err(match errno {
                rustix::io::Errno::WOULDBLOCK => held(dir, &mut file),
                other => Status::io("lock", &path, &other.into()),
            });
        }
        let mut text = String::new();
        let before = file.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str::<Holder>(&text).ok());
        let boot = fs::read_to_string(BOOT_ID).map(|id| id.trim().to_owned()).unwrap_or_default();
        let same_boot = before.is_some_and(|before| !boot.is_empty() && before.boot == boot);
        let text =
            serde_json::to_string(&Holder { pid: std::process::id(), holder: holder.to_owned(), boot: boot.clone() })
                .map_err(|error| Status::internal(error.to_string()))?;
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        written.map_err(|error| Status::io("write", &path, &error))?;
        Ok(Self { layout: format::of(dir)?, _file: file, same_boot, boot })
    }
}

fn held(dir: &Path, file: &mut File) -> Status {
    let mut text = String::new();
    let who = match file.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str::<Holder>(&text).ok()) {
        Some(holder) => format!("`{}` (pid {})", holder.holder, holder.pid),
        None => "another process".to_owned(),
    };
    Status::failed_precondition(format!(
        "the store at {} is held by {who}; stop it, talk to it with --address, or use another --root",
        dir.display()
    ))
}

fn unusable(doing: &str, dir: &Path, error: &std::io::Error) -> Status {
    let status = Status::io(&format!("{doing} the store directory"), dir, error);
    match status.code {
        Code::PermissionDenied => {
            Status::new(status.code, format!("{}; run as root, or choose a writable --root", status.message))
        }
        _ => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = Hold::take(dir.path(), "berth serve").unwrap();
        let error = Hold::take(dir.path(), "berth pull").unwrap_err();
        assert_eq!(error.code, Code::FailedPrecondition);
        assert!(
            error.message.contains("berth serve") && error.message.contains(&std::process::id().to_string()),
            "{error}"
        );
        drop(first);
        Hold::take(dir.path(), "berth pull").unwrap();
    }

    #[test]
    fn knows_whether_the_machine_was_started_again() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Hold::take(dir.path(), "x").unwrap().same_boot);
        assert!(Hold::take(dir.path(), "x").unwrap().same_boot);
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        let boot = fs::read_to_string(BOOT_ID).unwrap();
        fs::write(dir.path().join(FILE), text.replace(boot.trim(), "an-earlier-boot")).unwrap();
        assert!(!Hold::take(dir.path(), "x").unwrap().same_boot);
    }
}
