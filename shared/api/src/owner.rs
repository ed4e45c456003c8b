//! Whose data a directory holds: records and data are kept in different places, and who lost the records must not take
//! all data for garbage.

use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use berth_model::Status;

const FILE: &str = "records-id";

/// Tells the files apart that several threads write at once.
static FRESH: AtomicU64 = AtomicU64::new(0);

/// Refuses if the directory's data belong to other records than these. The first records that ask own them.
pub fn check(dir: &Path, id: &str) -> Result<(), Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument("whose data these are was not said"));
    }
    let path = dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(owner) if owner.trim() == id => Ok(()),
        // A power cut may leave it empty.
        Ok(owner) if !owner.trim().is_empty() => Err(Status::failed_precondition(format!(
            "{} belongs to the records of store {}, and these are of store {id}; nothing is collected there. If those \
             records are lost for good, remove {}",
            dir.display(),
            owner.trim(),
            path.display()
        ))),
        Ok(_) => own(&path, id, |fresh| fs::rename(fresh, &path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Not by a rename: of several who ask at once one is the first.
            own(&path, id, |fresh| match fs::hard_link(fresh, &path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                done => done,
            })?;
            check(dir, id)
        }
        Err(error) => Err(Status::io("read", &path, &error)),
    }
}

fn own(path: &Path, id: &str, name: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Status> {
    let fresh = format!("new-{}-{}", std::process::id(), FRESH.fetch_add(1, Ordering::Relaxed));
    let fresh = path.with_extension(fresh);
    let write = || {
        fs::write(&fresh, id)?;
        fs::File::open(&fresh)?.sync_all()?;
        name(&fresh)
    };
    let done = write();
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => done,
    }
    .map_err(|error| Status::io("write", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_owns_it() {
        let dir = tempfile::tempdir().unwrap();
        check(dir.path(), "a").unwrap();
        check(dir.path(), "a").unwrap();
        let refused = check(dir.path(), "b").unwrap_err();
        assert!(refused.message.contains("records-id"), "{refused}");
        fs::write(dir.path().join(FILE), "").unwrap();
        check(dir.path(), "b").unwrap();
        assert!(check(dir.path(), "a").is_err());
        assert!(check(dir.path(), "").is_err());
    }
}
