//! The logs that an earlier opener left: few and small ones are kept as they are, instead of being written to tables at once.
//!
//! RocksDB would turn what it finds in logs into a table for each family, with two flushes of the disk each: a command that
//! runs for 20 ms would wait for forty of them, and the next one again. Kept logs are read again by the next opener, so
//! there is a bound on them.

use std::{fs::File, io, path::Path};

/// Most logs that are kept.
const FILES: usize = 8;
/// Most bytes in them: read in some milliseconds.
const BYTES: u64 = 1 << 20;

/// Whether the logs in a store's directory may be kept.
///
/// If so, the newest was flushed. Its writer may have been killed with changes that nobody waited for, and what is written
/// to the next log must not outlast them in a power cut: a log with a gap before it is no history. Those before it were
/// flushed the same way when they were followed.
pub(crate) fn keep(dir: &Path) -> io::Result<bool> {
    let (mut files, mut bytes, mut newest) = (0, 0, None);
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let Some(number) = number(&entry.file_name().to_string_lossy()) else { continue };
        files += 1;
        bytes += entry.metadata()?.len();
        if newest.as_ref().is_none_or(|(most, _)| number > *most) {
            newest = Some((number, entry.path()));
        }
    }
    if files > FILES || bytes > BYTES {
        return Ok(false);
    }
    if let Some((_, path)) = newest {
        File::open(path)?.sync_data()?;
    }
    Ok(true)
}

/// RocksDB calls them `000012.log`.
fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".log")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_small_ones() {
        let dir = tempfile::tempdir().unwrap();
        assert!(keep(dir.path()).unwrap());
        for number in 0..FILES {
            std::fs::write(dir.path().join(format!("{number:06}.log")), b"x").unwrap();
        }
        std::fs::write(dir.path().join("LOG"), vec![0; 2 << 20]).unwrap();
        assert!(keep(dir.path()).unwrap());
        std::fs::write(dir.path().join("000100.log"), b"x").unwrap();
        assert!(!keep(dir.path()).unwrap(), "too many");
        for number in 1..FILES {
            std::fs::remove_file(dir.path().join(format!("{number:06}.log"))).unwrap();
        }
        assert!(keep(dir.path()).unwrap());
        std::fs::write(dir.path().join("000100.log"), vec![0; 1 << 20]).unwrap();
        assert!(!keep(dir.path()).unwrap(), "too large");
    }
}
