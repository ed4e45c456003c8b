//! The frame of a tar archive: headers, what extends them, and the data behind them.
//!
//! Headers are read by the `tar` crate; what stands between them is ours, because its reader splits PAX records at line
//! ends, which are legal in names and in binary attributes (POSIX.1-2017 pax, "Extended Header": records have lengths).

use std::io::{self, Read};

use bytes::Bytes;

use tar::{EntryType, Header};

use crate::{entry::Entry, error::ApplyError, pieces::Pieces, sparse};

const BLOCK: usize = 512;
/// Extended headers longer than this are an attack: names and attributes are bounded by the kernel.
const MAX_EXTENSION: u64 = 4 << 20;

/// An error of the archive itself. What the stream below said is told by the pipeline.
pub(crate) fn damaged(error: &io::Error) -> ApplyError {
    ApplyError::Damaged(format!("the tar archive is damaged: {error}"))
}

fn broken(reason: &str) -> ApplyError {
    ApplyError::Damaged(format!("the tar archive is damaged: {reason}"))
}

/// Reads an archive as for applying it, and makes nothing; how many entries it has. For measuring.
pub fn count(source: &mut dyn Pieces) -> Result<usize, ApplyError> {
    let (mut archive, mut count) = (Archive::new(source), 0);
    while archive.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// What comes before a header and speaks of it.
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    /// GNU's long name.
    pub(crate) name: Option<Vec<u8>>,
    /// GNU's long link target.
    pub(crate) target: Option<Vec<u8>>,
    /// PAX records, in order.
    pub(crate) records: Records,
}

/// An archive that is read from front to back.
pub(crate) struct Archive<'a> {
    source: &'a mut dyn Pieces,
    /// Data of the current entry that nobody has read.
    left: u64,
    /// Padding behind it.
    padding: u64,
    /// For error messages.
    offset: u64,
}

impl<'a> Archive<'a> {
    pub(crate) fn new(source: &'a mut dyn Pieces) -> Self {
        Self { source, left: 0, padding: 0, offset: 0 }
    }

    /// The next entry; its data is then read from the archive itself.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ApplyError> {
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header()? else {
                let dangling = extensions.name.is_some() || !extensions.records.is_empty();
                return if dangling { Err(broken("it ends after an extended header")) } else { Ok(None) };
            };
            let size = number(&header.as_old().size, header.entry_size())?;
            let kind = header.entry_type();
            match kind {
                EntryType::XHeader => extensions.records = records(&self.extension(size)?)?,
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                EntryType::GNULongName => extensions.name = Some(text(self.extension(size)?)),
                EntryType::GNULongLink => extensions.target = Some(text(self.extension(size)?)),
                _ => {
                    let map = if kind == EntryType::GNUSparse { Some(self.old_sparse(&header)?) } else { None };
                    let entry = Entry::from_header(&header, extensions, size, map)?;
                    self.expect(entry.stored);
                    return Ok(Some(entry));
                }
            }
        }
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    /// The next header; `None` at the archive's end.
    fn header(&mut self) -> Result<Option<Header>, ApplyError> {
        let skip = self.left + self.padding;
        let mut skipped = 0;
        while skipped < skip {
            let want = usize::try_from(skip - skipped).unwrap_or(usize::MAX);
            match self.source.piece(want).map_err(|error| damaged(&error))?.len() as u64 {
                0 => break,
                more => skipped += more,
            }
        }
        self.offset += skipped;
        if skipped < self.left {
            return Err(broken(&format!("it ends after {} bytes in the middle of an entry", self.offset)));
        }
        (self.left, self.padding) = (0, 0);
        let Some(block) = self.block()? else { return Ok(None) };
        // Two blocks of zeros end an archive; one does, too, in archives of the wild.
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        // The field of the sum itself counts as eight blanks.
        let all: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        let own: u32 = header.as_old().cksum.iter().map(|byte| u32::from(*byte)).sum();
        if header.cksum().ok() != Some(all - own + 8 * u32::from(b' ')) {
            return Err(broken(&format!("the header at byte {} has a wrong checksum", self.offset - BLOCK as u64)));
        }
        Ok(Some(header))
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, ApplyError> {
        let mut block = [0_u8; BLOCK];
        let mut length = 0;
        while let Some(rest) = block.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match self.source.read(rest).map_err(|error| damaged(&error))? {
                0 => break,
                read => length += read,
            }
        }
        self.offset += length as u64;
        match length {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(broken(&format!("it ends after {} bytes in the middle of a header", self.offset))),
        }
    }

    /// The data of an extended header, whole.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, ApplyError> {
        if size > MAX_EXTENSION {
            return Err(broken(&format!("an extended header of {size} bytes")));
        }
        self.expect(size);
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.read_exact(&mut bytes).map_err(|error| damaged(&error))?;
        Ok(bytes)
    }

    /// The map of an old GNU sparse entry: four places in the header, then blocks of 21 each (GNU tar manual, "Old GNU Format").
    fn old_sparse(&mut self, header: &Header) -> Result<(Vec<sparse::Segment>, u64), ApplyError> {
        let gnu = header.as_gnu().ok_or_else(|| broken("a sparse entry without GNU's header"))?;
        let size = gnu.real_size().map_err(|error| damaged(&error))?;
        let mut numbers = Vec::new();
        for place in gnu.sparse.iter().filter(|place| !place.is_empty()) {
            numbers.push(place.offset().map_err(|error| damaged(&error))?);
            numbers.push(place.length().map_err(|error| damaged(&error))?);
        }
        let mut more = gnu.is_extended();
        while more {
            let block = self.block()?.ok_or_else(|| broken("it ends in a sparse map"))?;
            let mut extended = tar::GnuExtSparseHeader::new();
            extended.as_mut_bytes().copy_from_slice(&block);
            for place in extended.sparse.iter().filter(|place| !place.is_empty()) {
                numbers.push(place.offset().map_err(|error| damaged(&error))?);
                numbers.push(place.length().map_err(|error| damaged(&error))?);
            }
            more = extended.is_extended();
        }
        let segments = sparse::check(&numbers, size).map_err(|error| damaged(&error))?;
        Ok((segments, size))
    }
}

impl Pieces for Archive<'_> {
    fn piece(&mut self, most: usize) -> io::Result<Bytes> {
        let length = most.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(Bytes::new());
        }
        let piece = self.source.piece(length)?;
        self.left -= piece.len() as u64;
        self.offset += piece.len() as u64;
        Ok(piece)
    }
}

impl Read for Archive<'_> {
    /// Reads data of the current entry.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let Some(part) = buffer.get_mut(..length).filter(|part| !part.is_empty()) else { return Ok(0) };
        let read = self.source.read(part)?;
        self.left -= read as u64;
        self.offset += read as u64;
        Ok(read)
    }
}

/// A text of GNU's long forms: up to the first zero.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Keys and values of PAX records.
type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// A numeric field; one that is left blank counts as 0, as everybody reads it.
pub(crate) fn number(field: &[u8], read: io::Result<u64>) -> Result<u64, ApplyError> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Ok(0);
    }
    read.map_err(|error| damaged(&error))
}

/// PAX records: `LENGTH KEY=VALUE\n`, the length counting all of it.
fn records(mut bytes: &[u8]) -> Result<Records, ApplyError> {
    let malformed = || broken("a PAX record is malformed");
    let mut records = Vec::new();
    while !bytes.is_empty() && bytes.first() != Some(&0) {
        let digits = bytes.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
        let length: usize = bytes
            .get(..digits)
            .and_then(|text| std::str::from_utf8(text).ok())
            .and_then(|text| text.parse().ok())
            .ok_or_else(malformed)?;
        let record =
            bytes.get(digits + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(malformed)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
        let (key, value) = record.split_at(equals);
        records.push((key.to_vec(), value.get(1..).unwrap_or_default().to_vec()));
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_hold_line_ends() {
        let read = records(b"10 a=b\nc\n\n8 k=v=w\n5 e=\n\0\0").unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let read: Vec<_> = read.iter().map(|(key, value)| (text(key), text(value))).collect();
        assert_eq!(read, [("a".into(), "b\nc\n".into()), ("k".into(), "v=w".into()), ("e".to_owned(), String::new())]);
        for bad in [&b"x a=b\n"[..], b"99 a=b\n", b"7 a=bcd", b"5 ab\n", b"a=b\n", b"0 a=b\n"] {
            assert!(records(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ends_are_told_from_breaks() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_size(700);
        archive.append_data(&mut header, "a", &[1; 700][..]).unwrap();
        let whole = archive.into_inner().unwrap();
        let run = |mut bytes: &[u8]| count(&mut bytes);
        assert_eq!(run(&whole).unwrap(), 1);
        assert_eq!(run(&whole[..1536]).unwrap(), 1, "without the blocks at the end");
        assert_eq!(run(b"").unwrap(), 0);
        for cut in [100, 600, 1100] {
            assert!(run(&whole[..cut]).is_err(), "{cut}");
        }
        let mut flipped = whole.clone();
        flipped[3] ^= 1;
        assert!(run(&flipped).unwrap_err().to_string().contains("checksum"));
    }
}
