//! One entry of an archive, read from its header and PAX records: ustar, GNU and PAX forms (POSIX.1-2017 pax; tar(5)).

use std::io::Read;

use tar::EntryType;

use crate::{
    error::ApplyError,
    facts::{self, Facts},
    sparse::Sparse,
};

/// An entry.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: EntryType,
    /// Of links: what they lead to.
    pub(crate) target: Vec<u8>,
    /// Bytes of data; expanded ones for an old GNU sparse file.
    pub(crate) size: u64,
    pub(crate) facts: Facts,
    pub(crate) device: (u32, u32),
    pub(crate) sparse: Sparse,
}

/// An error of reading the archive. What the stream below said is told by the pipeline; this is the archive's own.
pub(crate) fn damaged(error: &std::io::Error) -> ApplyError {
    ApplyError::Damaged(format!("the tar archive is damaged: {error}"))
}

impl Entry {
    /// Reads an entry; `None` for those that are no file (global PAX headers).
    pub(crate) fn read<R: Read>(raw: &mut tar::Entry<'_, R>) -> Result<Option<Self>, ApplyError> {
        let header = raw.header();
        let mut kind = header.entry_type();
        let mut facts = Facts {
            mode: header.mode().map_err(|error| damaged(&error))? & 0o7777,
            uid: id(header.uid().map_err(|error| damaged(&error))?)?,
            gid: id(header.gid().map_err(|error| damaged(&error))?)?,
            mtime: (signed_mtime(header).map_err(|error| damaged(&error))?, 0),
            xattrs: Vec::new(),
        };
        let device =
            (header.device_major().ok().flatten().unwrap_or(0), header.device_minor().ok().flatten().unwrap_or(0));
        let mut name = raw.path_bytes().into_owned();
        let target = raw.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let size = raw.size();
        let mut sparse = Sparse::default();
        if let Some(records) = raw.pax_extensions().map_err(|error| damaged(&error))? {
            for record in records {
                let record = record.map_err(|error| damaged(&error))?;
                record_into(record.key_bytes(), record.value_bytes(), &mut facts, &mut sparse)
                    .map_err(|error| ApplyError::hostile(&name, error.to_string()))?;
            }
        }
        if let Some(real) = sparse.name.take() {
            name = real;
        }
        match kind {
            EntryType::XGlobalHeader => return Ok(None),
            // Before POSIX, directories were files whose names end in a slash.
            EntryType::Regular if name.ends_with(b"/") => kind = EntryType::Directory,
            EntryType::Regular
            | EntryType::Continuous
            | EntryType::GNUSparse
            | EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo => {}
            other => {
                let reason = format!("its type {:?} is not one that layers may have", char::from(other.as_byte()));
                return Err(ApplyError::hostile(&name, reason));
            }
        }
        Ok(Some(Self { name, kind, target, size, facts, device, sparse }))
    }
}

fn record_into(key: &[u8], value: &[u8], facts: &mut Facts, sparse: &mut Sparse) -> std::io::Result<()> {
    match key {
        b"mtime" => {
            if let Some(mtime) = pax_time(value) {
                facts.mtime = mtime;
            }
        }
        _ => {
            let xattr = key.strip_prefix(b"SCHILY.xattr.");
            match xattr {
                Some(xattr) if facts::is_allowed(xattr) => facts.xattrs.push((xattr.to_vec(), value.to_vec())),
                Some(_) => {}
                None => sparse.record(key, value)?,
            }
        }
    }
    Ok(())
}

fn id(id: u64) -> Result<u32, ApplyError> {
    u32::try_from(id).map_err(|_large| ApplyError::Damaged(format!("an owner id {id} is larger than any system's")))
}

/// The header's time as a signed number: before 1970 it is base-256 with the sign bit set.
fn signed_mtime(header: &tar::Header) -> std::io::Result<i64> {
    let field = &header.as_old().mtime;
    if field.first() == Some(&0xff) {
        let tail = field.last_chunk::<8>().copied().unwrap_or_default();
        return Ok(i64::from_be_bytes(tail));
    }
    Ok(i64::try_from(header.mtime()?).unwrap_or(i64::MAX))
}

/// A decimal time with a fraction; before 1970 the fraction counts away from zero.
fn pax_time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let (seconds, nanos): (i64, u32) = (whole.parse().ok()?, digits.parse().ok()?);
    if text.starts_with('-') && nanos > 0 { Some((seconds - 1, 1_000_000_000 - nanos)) } else { Some((seconds, nanos)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_signs() {
        for (text, time) in [
            ("12", Some((12, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("12.1234567891", Some((12, 123_456_789))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.5", Some((-1, 500_000_000))),
            ("-3", Some((-3, 0))),
            ("x", None),
            ("1.x", None),
        ] {
            assert_eq!(pax_time(text.as_bytes()), time, "{text}");
        }
    }
}
