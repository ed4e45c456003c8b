//! What was gathered to be written, and how it is: through the page cache, or past it.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

use berth_failpoint::{Point, check};
use berth_model::Status;
use bytes::Bytes;

use super::passing::{PIECE, Pen, Place, Room, Source};
use crate::{buffers::ALIGNED, direct::Direct};

/// A smaller blob goes through the page cache: whoever reads it has hardly begun when all of it is there.
const LARGE: u64 = 4 << 20;
/// So much at least is written past the page cache at once.
const LEAST: usize = 64 << 10;

/// The way past the page cache, for bytes that are read in this process before they are needed from the disk.
pub(super) enum Past {
    No,
    NotTried,
    Yes {
        source: Source,
        direct: Direct,
        /// The last bytes went this way.
        taken: bool,
        /// The next ones should, when those who read have come further.
        later: bool,
    },
}

/// Memory for what goes past the page cache, and what writes it.
pub(super) struct Way {
    place: Place,
    pen: Pen,
    direct: Direct,
}

impl Way {
    /// So many bytes are in its memory.
    fn filled(&self) -> usize {
        self.place.buffer.as_ref().len()
    }

    /// As many of these bytes as there is room for.
    fn take(&mut self, bytes: &mut Bytes) {
        let room = self.place.buffer.room();
        let part = bytes.split_to(bytes.len().min(room.len()));
        if let Some(room) = room.get_mut(..part.len()) {
            room.copy_from_slice(&part);
            self.place.buffer.filled(part.len());
        }
    }
}

impl Past {
    /// For a blob of this size.
    pub(super) fn of(total: u64) -> Self {
        if total >= LARGE { Self::NotTried } else { Self::No }
    }

    /// Whether the last bytes went this way.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, Self::Yes { taken: true, .. })
    }

    /// Whether whoever asked for the way had better ask again.
    pub(super) fn is_later(&self) -> bool {
        matches!(self, Self::Yes { later: true, .. })
    }

    /// The way for so many bytes of a file, if those who read next are near; waits a little for them.
    pub(super) async fn way(&mut self, file: &Arc<File>, length: usize) -> Result<Option<Way>, Status> {
        if let Self::Yes { later, .. } = self {
            *later = false;
        }
        if length < LEAST {
            return Ok(None);
        }
        if matches!(self, Self::NotTried) {
            let file = Arc::clone(file);
            let both = crate::blocking(move || Ok(Source::of(&file).ok().zip(Direct::of(&file)))).await?;
            *self = both.map_or(Self::No, |(source, direct)| Self::Yes { source, direct, taken: false, later: false });
        }
        let Self::Yes { source, direct, taken, later } = self else { return Ok(None) };
        let room = if direct.works() { source.place().await } else { Room::None };
        *later = matches!(room, Room::Later);
        *taken = matches!(room, Room::Here(_));
        let Room::Here(place) = room else { return Ok(None) };
        Ok(Some(Way { place, pen: source.pen(), direct: direct.clone() }))
    }

    /// The way for what comes behind what is being written so, if nobody need be waited for.
    pub(super) fn next(&mut self, at: u64) -> Option<Way> {
        match self {
            Self::Yes { source, direct, .. } if direct.works() && at.is_multiple_of(ALIGNED as u64) => {
                let place = source.place_at_once()?;
                Some(Way { place, pen: source.pen(), direct: direct.clone() })
            }
            _ => None,
        }
    }

    /// The file is a blob now, and stays as it is.
    pub(super) fn keep(&mut self) {
        if let Self::Yes { source, .. } = self {
            source.keep();
        }
    }
}

/// Bytes that wait to be written, one after the other.
#[derive(Default)]
pub(super) struct Gathered {
    /// The first ones, where they are written from: so what they came in is soon free for what comes next.
    ready: Option<Way>,
    pieces: Vec<Bytes>,
    /// Of all.
    length: usize,
}

/// What is written at once.
pub(super) struct Part {
    bytes: Vec<Bytes>,
    /// So many first bytes bring it to where blocks begin; the others are whole blocks. They come behind what is in its
    /// memory.
    past: Option<(usize, Way)>,
}

impl Gathered {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        self.length += bytes.len();
        self.keep(bytes);
    }

    fn keep(&mut self, mut bytes: Bytes) {
        if let Some(way) = &mut self.ready {
            way.take(&mut bytes);
        }
        if !bytes.is_empty() {
            self.pieces.push(bytes);
        }
    }

    /// What comes is to be written past the page cache, and the first byte is where a block begins.
    pub(super) fn prepare(&mut self, way: Way) {
        self.ready = Some(way);
        for piece in std::mem::take(&mut self.pieces) {
            self.keep(piece);
        }
    }

    /// Whether enough is where it is written from.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.as_ref().is_some_and(|way| way.filled() >= LEAST)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes what is written next, at this place: all, or what may go past the page cache.
    pub(super) fn part(&mut self, at: u64, way: Option<Way>) -> Part {
        if let Some(mut way) = self.ready.take() {
            let blocks = if way.filled() < LEAST { 0 } else { way.filled() / ALIGNED * ALIGNED };
            if let Some(rest) = way.place.buffer.as_ref().get(blocks..).filter(|rest| !rest.is_empty()) {
                self.pieces.insert(0, Bytes::copy_from_slice(rest));
            }
            if blocks > 0 {
                way.place.buffer.shorten(blocks);
                self.length -= blocks;
                return Part { bytes: Vec::new(), past: Some((0, way)) };
            }
        }
        let Some(way) = way else {
            return Part { bytes: std::mem::take(self).pieces, past: None };
        };
        let head = usize::try_from(at.next_multiple_of(ALIGNED as u64) - at).unwrap_or_default();
        let blocks = self.length.saturating_sub(head).min(PIECE) / ALIGNED * ALIGNED;
        Part { bytes: self.take(head + blocks), past: Some((head, way)) }
    }

    /// The first so many bytes.
    fn take(&mut self, length: usize) -> Vec<Bytes> {
        let (mut taken, mut left) = (Vec::new(), length);
        let mut rest = std::mem::take(self).pieces.into_iter();
        while left > 0
            && let Some(mut piece) = rest.next()
        {
            let first = piece.split_to(left.min(piece.len()));
            left -= first.len();
            taken.push(first);
            if !piece.is_empty() {
                self.push(piece);
            }
        }
        rest.for_each(|piece| self.push(piece));
        taken
    }
}

impl Part {
    pub(super) fn length(&self) -> u64 {
        let ready = self.past.as_ref().map_or(0, |(_, way)| way.filled());
        ready as u64 + self.bytes.iter().map(|piece| piece.len() as u64).sum::<u64>()
    }

    /// Writes it to the file, beginning at this place.
    pub(super) fn write(self, file: &File, mut at: u64) -> io::Result<()> {
        let Some((mut head, mut way)) = self.past else {
            for piece in self.bytes {
                check(Point::BlobWrite).and_then(|()| file.write_all_at(&piece, at))?;
                at += piece.len() as u64;
            }
            return Ok(());
        };
        check(Point::BlobWrite)?;
        for mut piece in self.bytes {
            let first = piece.split_to(head.min(piece.len()));
            file.write_all_at(&first, at)?;
            at += first.len() as u64;
            head -= first.len();
            way.take(&mut piece);
        }
        let Way { place, pen, direct } = way;
        direct.write_all_at(place.buffer.as_ref(), at, file)?;
        pen.wrote(at, place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::passing::{Follower, Stage};

    fn gathered(pieces: &[&[u8]]) -> Gathered {
        let mut gathered = Gathered::default();
        pieces.iter().for_each(|piece| gathered.push(Bytes::copy_from_slice(piece)));
        gathered
    }

    #[test]
    fn what_is_left_stays_in_order() {
        let mut all = gathered(&[b"abc", b"d", b"efgh"]);
        let first: Vec<u8> = all.take(5).concat();
        assert_eq!((first.as_slice(), all.len()), (&b"abcde"[..], 3));
        let rest = all.part(5, None);
        assert_eq!((rest.length(), rest.bytes.concat(), all.len()), (3, b"fgh".to_vec(), 0));
    }

    /// In a directory that knows direct writes, and in one that may not: what is in the file is the same.
    #[tokio::test]
    async fn what_goes_past_the_page_cache_is_in_the_file_and_in_memory() {
        let bytes: Vec<u8> = (0..3 * PIECE + 12_345).map(|n| (n / 7) as u8).collect();
        for dir in [tempfile::tempdir_in(".").unwrap(), tempfile::tempdir_in("/dev/shm").unwrap()] {
            let file = Arc::new(File::options().write(true).create_new(true).open(dir.path().join("data")).unwrap());
            let read = File::open(dir.path().join("data")).unwrap();
            let (mut all, mut past, mut at) = (gathered(&[&bytes[..10], &bytes[10..]]), Past::of(LARGE), 0);
            // Nobody follows.
            assert!(past.way(&file, all.len()).await.unwrap().is_none() && !past.is_taken());
            let hash = Follower::join(&read, Stage::Hash, 0).unwrap();
            assert!(past.way(&file, all.len()).await.unwrap().is_none(), "only one of both");
            let using = Follower::join(&read, Stage::Use, 0).unwrap();
            // As if some had been written before.
            let first = gathered(&[&all.take(10).concat()]).part(0, None);
            at += first.length();
            first.write(&file, 0).unwrap();
            while all.len() > 0 {
                let way = past.way(&file, all.len()).await.unwrap();
                let part = all.part(at, way);
                let length = part.length();
                part.write(&file, at).unwrap();
                at += length;
            }
            assert_eq!(std::fs::read(dir.path().join("data")).unwrap(), bytes);
            if let Past::Yes { direct, .. } = &past {
                let length = 3 * PIECE - ALIGNED;
                assert!(hash.bytes(10, 1).is_none(), "not whole blocks");
                let kept = using.bytes(5000, length).map(|kept| kept.to_vec());
                assert_eq!(kept.unwrap(), bytes[5000..ALIGNED + PIECE]);
                hash.passed(u64::MAX);
                assert!(using.bytes(5000, 1).is_some());
                using.passed((ALIGNED + PIECE) as u64);
                assert!(using.bytes(5000, 1).is_none(), "all have had it");
                assert!(using.bytes((ALIGNED + PIECE) as u64, 1).is_some());
                assert!(direct.works() || dir.path().starts_with("/dev/shm"));
            }
        }
    }

    /// Pieces of any length, and now and then all is written that there is: nothing is lost, doubled or misplaced.
    #[tokio::test]
    async fn what_comes_is_put_where_it_is_written_from() {
        let bytes: Vec<u8> = (0..9 * PIECE + 777).map(|n| (n / 5) as u8).collect();
        let dir = tempfile::tempdir_in(".").unwrap();
        let file = Arc::new(File::options().write(true).create_new(true).open(dir.path().join("data")).unwrap());
        let read = File::open(dir.path().join("data")).unwrap();
        let followers = [Stage::Hash, Stage::Use].map(|stage| Follower::join(&read, stage, 0).unwrap());
        let (mut all, mut past, mut at, mut ready) = (Gathered::default(), Past::of(LARGE), 0, 0);
        for (n, piece) in bytes.chunks(100_003).enumerate() {
            all.push(Bytes::copy_from_slice(piece));
            let everything = n % 37 == 36 || piece.len() < 100_003;
            while all.len() >= PIECE || (everything && all.len() > 0) {
                let was_ready = all.is_ready();
                let way = if was_ready { None } else { past.way(&file, all.len()).await.unwrap() };
                let goes_past = was_ready || way.is_some();
                let (part, before) = (all.part(at, way), all.len());
                let next = past.next(at + part.length());
                if let Some(way) = next.filter(|_| goes_past) {
                    all.prepare(way);
                }
                assert_eq!(all.len(), before);
                ready += usize::from(was_ready);
                let length = part.length();
                part.write(&file, at).unwrap();
                at += length;
                followers.iter().for_each(|follower| follower.passed(at));
            }
        }
        assert!(std::fs::read(dir.path().join("data")).unwrap() == bytes);
        assert!(ready > 5, "{ready} parts were ready");
    }
}
