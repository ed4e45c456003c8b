//! The state of the world: one blob, who refers to it, what is recorded, leased, condemned, and how far everybody is.

/// What is noted by the barrier, and read by a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    /// The image that was there from the beginning.
    Old,
    /// The image of a pull.
    Pulled(usize),
    /// A record that is a root; a label of it may name the blob.
    Holder,
    /// The blob's record.
    Blob,
}

impl Node {
    fn bit(self) -> u8 {
        match self {
            Self::Old => 1,
            Self::Pulled(0) => 2,
            Self::Pulled(_) => 4,
            Self::Holder => 8,
            Self::Blob => 16,
        }
    }
}

/// Tables, in the order in which a mark reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reading {
    Images,
    Contents,
    Leases,
}

/// The round of collection, in the memory of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Round {
    Idle,
    /// The real mark reads one state; here it reads table after table while others write, which includes that and
    /// leans on the barrier even more.
    Marking {
        next: Reading,
        exists: bool,
        reached: bool,
    },
    Marked {
        garbage: bool,
    },
    /// Only without [`crate::fences::Fence::OneChange`]: it looked, and will delete.
    Decided {
        delete: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PullStep {
    Begin,
    /// Only without [`crate::fences::Fence::LeaseFirst`]: asked before it leased.
    Asked {
        there: bool,
    },
    Leased,
    Fetching,
    /// The blob is there, it was told.
    Ready,
    Recorded,
    /// The image is put: the pull is acknowledged.
    Done,
    Failed,
    Died,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lease {
    None,
    /// Names the blob.
    Running,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pull {
    pub(crate) step: PullStep,
    pub(crate) lease: Lease,
    pub(crate) image: bool,
}

/// Who names the blob in a label first, and looks for it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Labeller {
    Begin,
    Named,
    /// It saw the record: the blob is promised to it.
    Sure,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Collector {
    Resting,
    AwaitsMark,
    Deciding,
    Swept,
    Condemned(u8),
    AwaitsAnswer(u8),
    Absolves(u8),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    // What metadata has on disk.
    pub(crate) old: bool,
    pub(crate) label: bool,
    pub(crate) record: bool,
    /// The number of the condemnation that lasts.
    pub(crate) condemned: Option<u8>,
    // What it has in memory.
    pub(crate) round: Round,
    pub(crate) noted: u8,
    // The file of the content store.
    pub(crate) bytes: bool,
    // Condemnations so far; those whose time is over, as bits.
    pub(crate) condemnations: u8,
    pub(crate) ended: u8,
    // Messages on their way, as bits of condemnations.
    pub(crate) deletes: u8,
    pub(crate) absolutions: u8,
    // Everybody.
    pub(crate) pulls: [Pull; 2],
    pub(crate) labeller: Labeller,
    pub(crate) collector: Collector,
    // How often what may still happen.
    pub(crate) rounds_left: u8,
    pub(crate) last_round: bool,
    pub(crate) deaths_left: u8,
    pub(crate) restarts_left: u8,
}

impl World {
    pub(crate) fn note(&mut self, node: Node) {
        self.noted |= node.bit();
    }

    pub(crate) fn is_noted(&self, node: Node) -> bool {
        self.noted & node.bit() != 0
    }

    pub(crate) fn leased(&self) -> bool {
        self.pulls.iter().any(|pull| pull.lease == Lease::Running)
    }

    /// Somebody refers to the blob, or protects it.
    pub(crate) fn needed(&self) -> bool {
        self.old || self.label || self.leased() || self.pulls.iter().any(|pull| pull.image)
    }

    /// Nobody but a collector has anything to do any more, nobody needs the blob, and no message is on its way.
    pub(crate) fn is_quiet(&self) -> bool {
        let pulls_ended =
            self.pulls.iter().all(|pull| matches!(pull.step, PullStep::Done | PullStep::Failed | PullStep::Died));
        pulls_ended
            && matches!(self.labeller, Labeller::Sure | Labeller::Over)
            && !self.needed()
            && self.condemned.is_none()
            && self.deletes | self.absolutions == 0
    }
}
