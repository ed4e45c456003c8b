//! What a layer's tree already holds, remembered instead of asked for: whether a name is new, and whether the file of that
//! name is perhaps not there yet, because another thread makes it.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
};

use crate::{
    index::{Index, Kind},
    lower,
    name::Place,
};

/// The places where something was made. Of each only a hash is kept: two that have the same one are taken for the same, and
/// the worst that comes of it is a look that was not needed. The hashes are keyed, so nobody can choose such names.
pub(crate) struct Made {
    keys: RandomState,
    /// The round in which it was made.
    at: HashMap<u64, u32>,
    round: u32,
    /// The tree was empty at first, so what is not known is not there.
    complete: bool,
    /// The names themselves, as long as they are few and nothing was taken back.
    names: Option<Index>,
}

impl Made {
    /// For a tree that is empty, or not.
    pub(crate) fn new(empty: bool) -> Self {
        Self {
            keys: RandomState::new(),
            at: HashMap::new(),
            round: 0,
            complete: empty,
            names: empty.then(Index::default),
        }
    }

    /// Something was made at a place where nothing was.
    pub(crate) fn note(&mut self, place: &Place, kind: Kind) {
        self.at.insert(self.keys.hash_one(place), self.round);
        if let Some(names) = &mut self.names {
            names.add(place.path(), kind);
            if names.len() > lower::FIRST {
                self.names = None;
            }
        }
    }

    /// What was noted is not all: something was removed, or hides more than its name.
    pub(crate) fn lost_count(&mut self) {
        self.names = None;
    }

    /// The names of all there is, if they are known.
    pub(crate) fn into_names(self) -> Option<Index> {
        self.names
    }

    /// `false`: there is nothing at the place.
    pub(crate) fn may_hold(&self, place: &Place) -> bool {
        !self.complete || self.at.contains_key(&self.keys.hash_one(place))
    }

    /// `true`: what was noted for the place may not be there yet.
    pub(crate) fn may_be_under_way(&self, place: &Place) -> bool {
        self.at.get(&self.keys.hash_one(place)) == Some(&self.round)
    }

    /// All that was noted is there.
    pub(crate) fn settled(&mut self) {
        self.round = self.round.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_is_there_and_what_is_coming() {
        let (a, b) = (Place::parse(b"a").unwrap(), Place::parse(b"b").unwrap());
        let mut made = Made::new(true);
        assert!(!made.may_hold(&a) && !made.may_be_under_way(&a));
        made.note(&a, Kind::Other);
        assert!(made.may_hold(&a) && made.may_be_under_way(&a) && !made.may_hold(&b));
        made.settled();
        assert!(made.may_hold(&a) && !made.may_be_under_way(&a));
        assert!(Made::new(false).may_hold(&b), "what was there before is not known");
    }
}
