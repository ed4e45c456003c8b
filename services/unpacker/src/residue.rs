//! What a layer leaves open because it was unpacked without seeing the layers below: settled by `rebase`.

use std::collections::{BTreeMap, BTreeSet};

use crate::{hidden::Hidden, name::Place};

/// What a layer leaves open.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Residue {
    /// Directories that the layer only passes through: made as 0755 root, to be taken over from below.
    pub implied: BTreeSet<Place>,
    /// Hard links to files that this layer has not: name, target.
    pub links: Vec<(Place, Place)>,
    /// Where whiteouts were made. One that has nothing below to hide goes: overlayfs would list its name.
    pub whiteouts: BTreeSet<Place>,
    /// Times of the layer's own directories: they change with what is made in them, so they are set again at the end.
    pub times: Vec<(Place, (i64, u32))>,
    /// What lower layers have and this one hides, where the tree itself does not say so.
    #[serde(default)]
    pub hidden: Hidden,
    /// What the layer's tree holds: bytes on disk, each file once, and files.
    pub size: u64,
    /// See `size`.
    pub inodes: u64,
}

impl Residue {
    /// Files and directories that the layer made.
    pub(crate) fn count(&mut self, bytes: u64) {
        self.inodes += 1;
        self.size += bytes.div_ceil(4096) * 4096;
    }

    /// Of the times of one directory the last counts.
    pub(crate) fn last_times(&mut self) {
        let times: BTreeMap<Place, (i64, u32)> = self.times.drain(..).collect();
        self.times = times.into_iter().collect();
    }

    /// The place is the layer's own now, whatever it was before.
    pub(crate) fn own(&mut self, place: &Place) {
        self.implied.remove(place);
        self.links.retain(|(name, _)| name != place);
    }

    /// What was at or below the place is gone.
    pub(crate) fn forget_below(&mut self, place: &Place) {
        let below = |other: &Place| other.is_in(place);
        self.implied.retain(|other| !below(other));
        self.whiteouts.retain(|other| !below(other));
        self.links.retain(|(name, _)| !below(name));
        self.times.retain(|(other, _)| !below(other));
    }

    /// A directory moved, and all that was noted below it.
    pub(crate) fn moved(&mut self, from: &Place, to: &Place) {
        let moved = |place: &Place| place.moved(from, to).unwrap_or_else(|| place.clone());
        self.implied = self.implied.iter().map(moved).collect();
        self.whiteouts = self.whiteouts.iter().map(moved).collect();
        for (place, _) in &mut self.times {
            *place = moved(place);
        }
        for (name, _) in &mut self.links {
            *name = moved(name);
        }
    }
}
