//! The fences between collection and use, by name: a test takes one away and shows what it is for.
//!
//! Only with the feature `without-fences`, which only tests ask for; without it nothing can be taken away.

/// One rule that keeps a collection from taking what is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// What is written or leased while a mark is in force is noted.
    Barrier,
    /// What the noted refer to is kept too.
    Trace,
    /// The last notes are looked at in the change that deletes.
    OneChange,
    /// A mark has read all tables.
    CompletedMark,
    /// A digest that is recorded or leased is not condemned.
    CondemnationLooks,
    /// A condemned digest is neither recorded nor leased.
    CondemnationBars,
    /// An absolution ends its own condemnation only.
    OwnCondemnation,
    /// Records of a pull are written only while its lease runs.
    LeaseRuns,
}

/// All fences, or all but one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fences {
    #[cfg(feature = "without-fences")]
    without: Option<Fence>,
}

impl Fences {
    /// All but this one.
    #[cfg(feature = "without-fences")]
    #[must_use]
    pub fn without(fence: Fence) -> Self {
        Self { without: Some(fence) }
    }

    #[cfg(feature = "without-fences")]
    pub(crate) fn lacks(self, fence: Fence) -> bool {
        self.without == Some(fence)
    }

    #[cfg(not(feature = "without-fences"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(crate) const fn lacks(self, _: Fence) -> bool {
        false
    }
}
