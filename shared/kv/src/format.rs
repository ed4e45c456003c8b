//! The format of a store, in a file of its own: how its tables lie in it, and which programs may open it.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use berth_model::Status;

use crate::layout::Layout;

const FILE: &str = "FORMAT";
/// RocksDB's name for the newest list of its files: a store without it holds nothing.
const CURRENT: &str = "CURRENT";
/// Each format with its layout; the first is that of new stores.
const FORMATS: [(&str, Layout); 2] = [("berth-kv 2\n", Layout::Together), ("berth-kv 1\n", Layout::Families)];

/// The layout of the store in a directory, which the caller holds. A new one gets the newest.
///
/// FAILED_PRECONDITION: the format is not known.
pub(crate) fn of(dir: &Path) -> Result<Layout, Status> {
    let path = dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.map_err(|error| Status::io("read", &path, &error))?,
    };
    if let Some((_, layout)) = FORMATS.iter().find(|(format, _)| *format == text) {
        return Ok(*layout);
    }
    if text.ends_with('\n') {
        return Err(Status::failed_precondition(format!(
            "the store at {} has format {:?}, this program knows {}; use the program that made it, or another --root",
            dir.display(),
            text.trim(),
            FORMATS.map(|(format, _)| format!("{:?}", format.trim())).join(" and "),
        )));
    }
    // Nothing is said, or not to its end: a crash came before it was, or a power cut took it. Format 1 was not flushed, while that of a
    // store which says more was on disk before there was a list of files.
    let [newest, first] = FORMATS;
    let (format, layout) = if dir.join(CURRENT).exists() { first } else { newest };
    write(&path, format).map_err(|error| Status::io("write", &path, &error))?;
    Ok(layout)
}

/// RocksDB flushes the directory, and with it the name, before it tells that a store is made.
fn write(path: &Path, format: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(format.as_bytes())?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(format: Option<&str>, current: bool) -> (tempfile::TempDir, Result<Layout, Status>) {
        let dir = tempfile::tempdir().unwrap();
        if let Some(format) = format {
            fs::write(dir.path().join(FILE), format).unwrap();
        }
        if current {
            fs::write(dir.path().join(CURRENT), "MANIFEST-000001\n").unwrap();
        }
        let layout = of(dir.path());
        (dir, layout)
    }

    #[test]
    fn what_is_said_counts_and_silence_means_old_or_new() {
        for (format, current, layout) in [
            (None, false, Layout::Together),
            (Some(""), false, Layout::Together),
            (None, true, Layout::Families),
            (Some(""), true, Layout::Families),
            (Some("berth-kv"), false, Layout::Together),
            (Some("berth-kv 1"), true, Layout::Families),
            (Some("berth-kv 1\n"), false, Layout::Families),
            (Some("berth-kv 1\n"), true, Layout::Families),
            (Some("berth-kv 2\n"), false, Layout::Together),
            (Some("berth-kv 2\n"), true, Layout::Together),
        ] {
            let (dir, found) = with(format, current);
            assert_eq!(found.unwrap(), layout, "{format:?} {current}");
            // It is said from now on, whatever comes to be there.
            fs::write(dir.path().join(CURRENT), "").unwrap();
            assert_eq!(of(dir.path()).unwrap(), layout, "{format:?} {current}, again");
        }
    }

    #[test]
    fn refuses_a_format_it_does_not_know() {
        let error = with(Some("berth-kv 3\n"), true).1.unwrap_err();
        assert!(error.message.contains("berth-kv 3") && error.message.contains("berth-kv 2"), "{error}");
    }
}
