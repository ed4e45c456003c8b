//! The fences of the protocol, each of which can be taken away.

/// One rule that keeps a collection from taking what is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// What is written or leased while a mark is in force is noted.
    Barrier,
    /// The sweep keeps what the noted refer to, and not only the noted.
    Trace,
    /// The sweep looks at the notes and deletes in one change, with no other between.
    OneChange,
    /// Only a completed mark is swept; a restart of metadata, which loses the notes, ends the round.
    CompletedMark,
    /// A digest that is recorded or leased is not condemned.
    CondemnationLooks,
    /// While a digest is condemned nobody records or leases it.
    CondemnationBars,
    /// The store deletes nothing after the condemnation's end.
    NotAfter,
    /// A collector absolves only when it was told how its deletion ended.
    AnswerFirst,
    /// An absolution ends its own condemnation and no other.
    OwnCondemnation,
    /// A pull leases a digest before it asks whether the store has it.
    LeaseFirst,
    /// Records of a pull are written only while its lease runs.
    LeaseRuns,
    /// A lease ends by itself.
    LeaseEnds,
    /// A condemnation ends by itself.
    CondemnationEnds,
    /// A round of which nobody hears any more ends.
    RoundEnds,
}

impl Fence {
    /// Without one of them something is lost.
    pub(crate) const AGAINST_LOSS: [Self; 11] = [
        Self::Barrier,
        Self::Trace,
        Self::OneChange,
        Self::CompletedMark,
        Self::CondemnationLooks,
        Self::CondemnationBars,
        Self::NotAfter,
        Self::AnswerFirst,
        Self::OwnCondemnation,
        Self::LeaseFirst,
        Self::LeaseRuns,
    ];
    /// Without one of them the dead stand in the way of the living.
    pub(crate) const AGAINST_WAITING: [Self; 3] = [Self::LeaseEnds, Self::CondemnationEnds, Self::RoundEnds];
}

/// What is explored: who takes part, and which fence is missing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Play {
    /// Pulls of the same blob, 1 or 2.
    pub(crate) pulls: usize,
    /// Somebody names the blob in a label of another record.
    pub(crate) labeller: bool,
    pub(crate) without: Option<Fence>,
}

impl Play {
    pub(crate) fn has(&self, fence: Fence) -> bool {
        self.without != Some(fence)
    }
}
