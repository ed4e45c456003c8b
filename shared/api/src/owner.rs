//! Whose data a directory holds: records and data are kept in different places, and who lost the records must not take
//! all data for garbage.

use std::{fs, io, path::Path};

use berth_model::Status;

const FILE: &str = "records-id";

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
        Ok(_) => own(&path, id),
        Err(error) if error.kind() == io::ErrorKind::NotFound => own(&path, id),
        Err(error) => Err(Status::io("read", &path, &error)),
    }
}

fn own(path: &Path, id: &str) -> Result<(), Status> {
    let fresh = path.with_extension("new");
    let write = || {
        fs::write(&fresh, id)?;
        fs::File::open(&fresh)?.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(|error| Status::io("write", path, &error))
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
