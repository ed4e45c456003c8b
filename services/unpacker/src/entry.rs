//! One entry of an archive, read from its header and PAX records: ustar, GNU and PAX forms (POSIX.1-2017 pax; tar(5)).

use std::io::Read;

use tar::{EntryType, Header};

use crate::{
    archive::{Extensions, number},
    error::ApplyError,
    facts::{self, Facts},
    sparse::{Segment, Sparse},
};

/// An entry.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: EntryType,
    /// Of links: what they lead to.
    pub(crate) target: Vec<u8>,
    /// Bytes of data in the archive.
    pub(crate) stored: u64,
    pub(crate) facts: Facts,
    pub(crate) device: (u32, u32),
    sparse: Sparse,
    map: Option<(Vec<Segment>, u64)>,
}

impl Entry {
    /// An entry from its header and what extends that. `size`: of the data as the header says; `map`: of an old sparse file.
    pub(crate) fn from_header(
        header: &Header,
        extensions: Extensions,
        size: u64,
        map: Option<(Vec<Segment>, u64)>,
    ) -> Result<Self, ApplyError> {
        let mut kind = header.entry_type();
        let mut name = extensions.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let header_target = || header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let mut target = extensions.target.unwrap_or_else(header_target);
        let (mut uid, mut gid, mut stored) = (None, None, size);
        let old = header.as_old();
        let mode = u32::try_from(number(&old.mode, header.mode().map(u64::from))?).unwrap_or(0);
        let mut facts = Facts { mode: mode & 0o7777, mtime: (signed_mtime(header)?, 0), ..Facts::default() };
        let mut sparse = Sparse::default();
        for (key, value) in &extensions.records {
            match key.as_slice() {
                b"path" => name.clone_from(value),
                b"linkpath" => target.clone_from(value),
                b"size" => stored = decimal(value)?,
                b"uid" => uid = Some(decimal(value)?),
                b"gid" => gid = Some(decimal(value)?),
                b"mtime" => facts.mtime = pax_time(value).unwrap_or(facts.mtime),
                key => {
                    let taken = other_record(key, value, &mut facts, &mut sparse);
                    taken.map_err(|error| ApplyError::hostile(&name, error.to_string()))?;
                }
            }
        }
        facts.uid = id(uid.map_or_else(|| number(&old.uid, header.uid()), Ok)?)?;
        facts.gid = id(gid.map_or_else(|| number(&old.gid, header.gid()), Ok)?)?;
        if let Some(real) = sparse.name.take() {
            name = real;
        }
        match kind {
            // Before POSIX, directories were files whose names end in a slash.
            EntryType::Regular if name.ends_with(b"/") => kind = EntryType::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {}
            // These have no data, whatever their size field says.
            EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo => stored = 0,
            other => {
                let reason = format!("its type {:?} is not one that layers may have", char::from(other.as_byte()));
                return Err(ApplyError::hostile(&name, reason));
            }
        }
        let device =
            (header.device_major().ok().flatten().unwrap_or(0), header.device_minor().ok().flatten().unwrap_or(0));
        Ok(Self { name, kind, target, stored, facts, device, sparse, map })
    }

    /// Where the data of a sparse file goes, and how long the file is; `None` for others. May read a map from the data.
    pub(crate) fn segments(&self, data: &mut impl Read) -> Result<Option<(Vec<Segment>, u64)>, ApplyError> {
        if self.map.is_some() {
            return Ok(self.map.clone());
        }
        self.sparse.segments(data).map_err(|error| ApplyError::hostile(&self.name, error.to_string()))
    }
}

fn decimal(text: &[u8]) -> Result<u64, ApplyError> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| {
        ApplyError::Damaged(format!("a PAX record holds {:?}, which is no number", crate::error::shown(text)))
    })
}

fn other_record(key: &[u8], value: &[u8], facts: &mut Facts, sparse: &mut Sparse) -> std::io::Result<()> {
    match key.strip_prefix(b"SCHILY.xattr.") {
        Some(xattr) if facts::is_allowed(xattr) => facts.xattrs.push((xattr.to_vec(), value.to_vec())),
        Some(_) => {}
        None => sparse.record(key, value)?,
    }
    Ok(())
}

fn id(id: u64) -> Result<u32, ApplyError> {
    u32::try_from(id).map_err(|_large| ApplyError::Damaged(format!("an owner id {id} is larger than any system's")))
}

/// The header's time as a signed number: before 1970 it is base-256 with the sign bit set.
fn signed_mtime(header: &Header) -> Result<i64, ApplyError> {
    let field = &header.as_old().mtime;
    if field.first() == Some(&0xff) {
        let tail = field.last_chunk::<8>().copied().unwrap_or_default();
        return Ok(i64::from_be_bytes(tail));
    }
    Ok(i64::try_from(number(field, header.mtime())?).unwrap_or(i64::MAX))
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
