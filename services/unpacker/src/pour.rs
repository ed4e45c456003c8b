//! The bytes of an entry, out of the archive and into a file.

use std::{fs::File, os::fd::AsFd as _};

use bytes::Bytes;

use crate::{archive, entry::Entry, error::ApplyError, file, pieces::Pieces};

/// Takes exactly `length` bytes of an entry's data.
pub(crate) fn pieces_of(
    entry: &Entry,
    data: &mut impl Pieces,
    length: u64,
    mut take: impl FnMut(Bytes) -> Result<(), ApplyError>,
) -> Result<(), ApplyError> {
    let mut left = length;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX);
        let piece = data.piece(want).map_err(|error| archive::damaged(&error))?;
        if piece.is_empty() {
            return Err(ApplyError::Damaged(format!(
                "the archive ends in the middle of {:?}",
                crate::error::shown(&entry.name)
            )));
        }
        left -= piece.len() as u64;
        take(piece)?;
    }
    Ok(())
}

/// Copies exactly `length` bytes to where the file is.
pub(crate) fn copy(entry: &Entry, from: &mut impl Pieces, to: &File, length: u64) -> Result<u64, ApplyError> {
    pieces_of(entry, from, length, |piece| {
        file::write(to.as_fd(), &piece).map_err(|errno| ApplyError::refused(&entry.name, "write a file", errno))
    })?;
    Ok(length)
}
