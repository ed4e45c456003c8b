//! The medium: blocks that are durable, and writes in the cache before them, in the order they came.

use std::{collections::HashMap, sync::Arc};

/// Bytes of a block: what the file system writes at once.
pub(super) const BLOCK: usize = 4096;
/// Bytes of a sector: what a disk writes whole or not at all.
const SECTOR: usize = 512;

type Block = Arc<[u8; BLOCK]>;

/// What becomes of the cache when the power goes.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// All of it is lost: the fewest bytes that an honest disk may keep.
    All,
    /// Each write is kept or lost or torn by a lottery; earlier ones may be lost and later ones kept.
    Some(u64),
}

/// Blocks on the platter, and writes that are not there yet.
#[derive(Clone, Debug, Default)]
pub struct Medium {
    durable: HashMap<u64, Block>,
    cache: Vec<(u64, Block)>,
    /// The newest write in the cache for each block.
    newest: HashMap<u64, usize>,
}

impl Medium {
    /// The block as whoever writes sees it.
    #[must_use]
    fn block(&self, number: u64) -> Option<&Block> {
        match self.newest.get(&number).and_then(|at| self.cache.get(*at)) {
            Some((_, block)) => Some(block),
            None => self.durable.get(&number),
        }
    }

    /// Reads; what was never written is zero.
    #[must_use]
    pub fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for (number, from, piece) in pieces(offset, &mut bytes) {
            if let Some(there) = self.block(number).and_then(|block| block.get(from..from + piece.len())) {
                piece.copy_from_slice(there);
            }
        }
        bytes
    }

    /// Writes into the cache.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        for (number, from, piece) in pieces(offset, &mut bytes) {
            let mut block = self.block(number).map_or([0; BLOCK], |block| **block);
            if let Some(place) = block.get_mut(from..from + piece.len()) {
                place.copy_from_slice(piece);
            }
            self.newest.insert(number, self.cache.len());
            self.cache.push((number, Arc::new(block)));
        }
    }

    /// All that was written is durable.
    pub fn flush(&mut self) {
        self.durable.extend(self.cache.drain(..));
        self.newest.clear();
    }

    /// Writes that are not durable.
    #[must_use]
    pub fn unflushed(&self) -> usize {
        self.cache.len()
    }

    /// What is there when the power is back.
    #[must_use]
    pub fn survivor(&self, loss: Loss) -> Self {
        let mut durable = self.durable.clone();
        if let Loss::Some(seed) = loss {
            let mut lottery = crate::chance::Chance::new(seed);
            // Some disks lose nearly all, some nearly nothing.
            let kept_of_ten = lottery.below(11);
            for (number, block) in &self.cache {
                if lottery.below(10) >= kept_of_ten {
                    continue;
                }
                let whole = lottery.below(10) > 0;
                let sectors = if whole { BLOCK / SECTOR } else { lottery.below(BLOCK / SECTOR) };
                let mut kept = durable.get(number).map_or([0; BLOCK], |old| **old);
                let length = sectors * SECTOR;
                if let (Some(place), Some(new)) = (kept.get_mut(..length), block.get(..length)) {
                    place.copy_from_slice(new);
                }
                durable.insert(*number, Arc::new(kept));
            }
        }
        Self { durable, ..Self::default() }
    }
}

/// Cuts bytes at the borders of blocks: block, place in it, piece.
fn pieces(offset: u64, bytes: &mut [u8]) -> impl Iterator<Item = (u64, usize, &mut [u8])> {
    let size = BLOCK as u64;
    let mut at = offset;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let from = usize::try_from(at % size).unwrap_or(0);
        let length = (BLOCK - from).min(rest.len());
        let (piece, behind) = std::mem::take(&mut rest).split_at_mut(length);
        rest = behind;
        let number = at / size;
        at += length as u64;
        Some((number, from, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_only_what_is_flushed_survives() {
        let mut medium = Medium::default();
        medium.write(4090, b"flushed, over a border");
        medium.flush();
        medium.write(4096, b"lost");
        assert_eq!(medium.read(4090, 22), b"flushelostver a border");
        assert_eq!(medium.unflushed(), 1);
        let after = medium.survivor(Loss::All);
        assert_eq!(after.read(4090, 22), b"flushed, over a border");
        assert_eq!(after.read(100_000, 2), [0, 0]);
    }

    #[test]
    fn the_lottery_keeps_later_writes_without_earlier_ones() {
        let mut medium = Medium::default();
        for number in 0..200_u64 {
            medium.write(number * BLOCK as u64, &[1; BLOCK]);
        }
        let kept = |seed| {
            let after = medium.survivor(Loss::Some(seed));
            (0..200).map(|number| after.read(number * BLOCK as u64, 1)[0]).collect::<Vec<u8>>()
        };
        assert_eq!(kept(7), kept(7), "the same seed, the same loss");
        let mixed = (0..20).filter(|seed| kept(*seed).windows(2).any(|pair| pair == [0, 1])).count();
        assert!(mixed > 5, "{mixed} of 20");
    }
}
