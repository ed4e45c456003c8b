//! Writes a layer's archive: POSIX form, each fact that the plain header cannot hold as a PAX record (POSIX.1-2017, pax),
//! attributes as `SCHILY.xattr.` records, times in whole seconds, no names of users or groups.

use std::io::{self, Read, Write};

use rustix::fs::{FileType, Stat};
use tar::{Builder, EntryType, Header};

use crate::{facts::Facts, name::Place, tree};

/// The largest number in the 7 octal digits of the owner fields.
const MAX_ID: u32 = 0o777_7777;
/// The largest number in the 11 octal digits of size and time.
const MAX_LONG: u64 = 0o777_7777_7777;
/// What a name in the plain header holds.
const MAX_NAME: usize = 100;

/// What an entry is beside its name and facts.
pub enum What<'a> {
    /// A directory.
    Dir,
    /// A file of so many bytes.
    File(u64, &'a mut dyn Read),
    /// Another name of an entry before.
    Link(&'a Place),
    /// A symbolic link to this.
    Symlink(&'a [u8]),
    /// A device or a fifo.
    Node(&'a Stat),
    /// The place below is gone.
    Whiteout,
}

/// Writes entries.
pub struct LayerWriter<W: Write> {
    archive: Builder<W>,
    latest: Option<i64>,
}

impl<W: Write> LayerWriter<W> {
    /// A writer of an archive in which no time is later than `latest`.
    pub fn new(to: W, latest: Option<i64>) -> Self {
        Self { archive: Builder::new(to), latest }
    }

    /// Writes the end of the archive.
    pub fn finish(self) -> io::Result<W> {
        self.archive.into_inner()
    }

    /// Writes an entry; the root is the empty place.
    pub fn entry(&mut self, place: &Place, facts: &Facts, what: What<'_>) -> io::Result<()> {
        let mut header = Header::new_ustar();
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        let (mut name, mut size) = (place.path().to_vec(), 0);
        let mut data: &mut dyn Read = &mut io::empty();
        header.set_mode(facts.mode & 0o7777);
        match what {
            What::Dir => {
                header.set_entry_type(EntryType::Directory);
                name.extend_from_slice(if name.is_empty() { b"./" } else { b"/" });
            }
            What::File(bytes, from) => {
                header.set_entry_type(EntryType::Regular);
                (size, data) = (bytes, from);
            }
            What::Link(target) => {
                header.set_entry_type(EntryType::Link);
                put_text(&mut header.as_old_mut().linkname, "linkpath", target.path(), &mut records);
            }
            What::Symlink(target) => {
                header.set_entry_type(EntryType::Symlink);
                put_text(&mut header.as_old_mut().linkname, "linkpath", target, &mut records);
            }
            What::Node(stat) => {
                let kind = match tree::kind(stat) {
                    FileType::CharacterDevice => EntryType::Char,
                    FileType::BlockDevice => EntryType::Block,
                    _ => EntryType::Fifo,
                };
                header.set_entry_type(kind);
                let device = if kind == EntryType::Fifo { 0 } else { stat.st_rdev };
                header.set_device_major(rustix::fs::major(device))?;
                header.set_device_minor(rustix::fs::minor(device))?;
            }
            What::Whiteout => {
                header.set_entry_type(EntryType::Regular);
                name = whiteout(place);
            }
        }
        put_text(&mut header.as_old_mut().name, "path", &name, &mut records);
        let plain = put_number(size, MAX_LONG, "size", &mut records);
        header.set_size(plain);
        let plain = put_number(u64::from(facts.uid), u64::from(MAX_ID), "uid", &mut records);
        header.set_uid(plain);
        let plain = put_number(u64::from(facts.gid), u64::from(MAX_ID), "gid", &mut records);
        header.set_gid(plain);
        header.set_mtime(self.time(facts.mtime.0, &mut records));
        for (key, value) in &facts.xattrs {
            if let Ok(key) = std::str::from_utf8(key) {
                records.push((format!("SCHILY.xattr.{key}"), value.clone()));
            }
        }
        header.set_cksum();
        if !records.is_empty() {
            // In one order, whatever order the file system lists attributes in.
            records.sort();
            self.archive.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
        }
        let mut exact = Exact { from: data, left: size };
        self.archive.append(&header, &mut exact)?;
        if exact.left > 0 { Err(io::Error::other("it became shorter while it was read")) } else { Ok(()) }
    }

    fn time(&self, seconds: i64, records: &mut Vec<(String, Vec<u8>)>) -> u64 {
        let seconds = self.latest.map_or(seconds, |latest| seconds.min(latest));
        match u64::try_from(seconds) {
            Ok(plain) if plain <= MAX_LONG => plain,
            _ => {
                records.push(("mtime".to_owned(), seconds.to_string().into_bytes()));
                0
            }
        }
    }
}

/// The name that says a place is gone (OCI image-spec, `layer.md#whiteouts`).
fn whiteout(place: &Place) -> Vec<u8> {
    let Some((above, name)) = place.split() else { return Vec::new() };
    above.join(&[b".wh.", name].concat()).path().to_vec()
}

/// Puts a text into its field, or, if it does not fit there, into a record.
fn put_text(field: &mut [u8; MAX_NAME], key: &str, text: &[u8], records: &mut Vec<(String, Vec<u8>)>) {
    if text.len() > MAX_NAME || !text.is_ascii() {
        records.push((key.to_owned(), text.to_vec()));
    }
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
}

/// A number for its field; one that does not fit goes into a record.
fn put_number(number: u64, most: u64, key: &str, records: &mut Vec<(String, Vec<u8>)>) -> u64 {
    if number <= most {
        return number;
    }
    records.push((key.to_owned(), number.to_string().into_bytes()));
    0
}

/// As many bytes as were announced: not more, should a file grow meanwhile.
struct Exact<'a> {
    from: &'a mut dyn Read,
    left: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.from.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{archive::Archive, error::ApplyError};

    fn read(mut bytes: &[u8]) -> Result<Vec<(String, Facts, u64)>, ApplyError> {
        let mut archive = Archive::new(&mut bytes);
        let mut found = Vec::new();
        while let Some(entry) = archive.next()? {
            io::copy(&mut Read::take(&mut archive, entry.stored), &mut io::sink()).unwrap();
            found.push((String::from_utf8_lossy(&entry.name).into_owned(), entry.facts, entry.stored));
        }
        Ok(found)
    }

    #[test]
    fn what_does_not_fit_into_a_header_survives() {
        let long = format!("{}/{}", "d".repeat(120), "ä".repeat(60));
        let facts = Facts {
            mode: 0o4755,
            uid: 4_000_000_000,
            gid: 3_000_000,
            mtime: (-5, 999),
            xattrs: vec![(b"user.b".to_vec(), b"\n=1".to_vec()), (b"user.a".to_vec(), vec![0, 255])],
        };
        let mut writer = LayerWriter::new(Vec::new(), None);
        writer.entry(&Place::parse(long.as_bytes()).unwrap(), &facts, What::File(3, &mut &b"abcd"[..])).unwrap();
        writer.entry(&Place::parse(b"a/b").unwrap(), &Facts::default(), What::Whiteout).unwrap();
        writer.entry(&Place::default(), &Facts::default(), What::Dir).unwrap();
        let found = read(&writer.finish().unwrap()).unwrap();
        assert_eq!(found[0].0, long);
        let mut back = found[0].1.clone();
        back.xattrs.reverse();
        assert_eq!(back, Facts { mtime: (-5, 0), ..facts });
        assert_eq!(found[0].2, 3);
        assert_eq!((found[1].0.as_str(), found[1].1.mtime, found[1].2), ("a/.wh.b", (0, 0), 0));
        assert_eq!(found[2].0, "./");
    }

    #[test]
    fn no_time_is_later_and_short_files_are_told() {
        let facts = Facts { mtime: (500, 0), ..Facts::default() };
        let mut writer = LayerWriter::new(Vec::new(), Some(77));
        writer.entry(&Place::parse(b"d").unwrap(), &facts, What::Dir).unwrap();
        assert!(writer.entry(&Place::parse(b"f").unwrap(), &facts, What::File(9, &mut &b"short"[..])).is_err());
        let mut writer = LayerWriter::new(Vec::new(), Some(77));
        writer.entry(&Place::parse(b"d").unwrap(), &facts, What::Dir).unwrap();
        assert_eq!(read(&writer.finish().unwrap()).unwrap()[0].1.mtime, (77, 0));
    }
}
