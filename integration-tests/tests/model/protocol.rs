//! The protocol as a transition system: every order of everybody's steps, of deaths, and of time passing.

use stateright::{Model, Property};

use crate::{
    collector,
    fences::{Fence, Play},
    metadata, promises, pull,
    world::{Collector, Labeller, Lease, Pull, PullStep, Round, World},
};

/// Rounds that run while others work.
const ROUNDS: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Pull(usize),
    PullDies(usize),
    Label,
    Unlabel,
    DeleteOld,
    DeletePulled(usize),
    MarkReads,
    Collect,
    CollectorDies,
    DeletionArrives(u8),
    DeletionUnanswered,
    AbsolutionArrives(u8),
    MetadataRestarts,
    LeaseExpires(usize),
    CondemnationEnds,
    RoundForgotten,
}

impl Action {
    /// All there are, whether they make sense or not.
    pub(crate) fn all(world: &World) -> impl Iterator<Item = Self> {
        let condemnations = 0..world.condemnations;
        (0..2)
            .flat_map(|n| [Self::Pull(n), Self::PullDies(n), Self::DeletePulled(n), Self::LeaseExpires(n)])
            .chain([Self::Label, Self::Unlabel, Self::DeleteOld, Self::MarkReads, Self::Collect])
            .chain([Self::CollectorDies, Self::DeletionUnanswered, Self::MetadataRestarts])
            .chain([Self::CondemnationEnds, Self::RoundForgotten])
            .chain(condemnations.flat_map(|n| [Self::DeletionArrives(n), Self::AbsolutionArrives(n)]))
    }
}

impl Model for Play {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let pull = |number| Pull {
            step: if number < self.pulls { PullStep::Begin } else { PullStep::Failed },
            lease: Lease::None,
            image: false,
        };
        vec![World {
            old: true,
            label: false,
            record: true,
            condemned: None,
            round: Round::Idle,
            noted: 0,
            bytes: true,
            condemnations: 0,
            ended: 0,
            deletes: 0,
            absolutions: 0,
            pulls: [pull(0), pull(1)],
            labeller: if self.labeller { Labeller::Begin } else { Labeller::Over },
            collector: Collector::Resting,
            rounds_left: ROUNDS,
            last_round: false,
            deaths_left: 1,
            restarts_left: 1,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        // What makes no sense now has no next state.
        actions.extend(Action::all(world));
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Pull(number) => return pull::step(self, last, number),
            Action::Label => return pull::label(self, last),
            Action::Collect => return collector::step(self, last),
            // In the last round nothing is in a hurry: messages arrive in time.
            Action::DeletionUnanswered | Action::CondemnationEnds
                if last.last_round && last.collector != Collector::Resting =>
            {
                return None;
            }
            Action::DeletionUnanswered => return collector::times_out(self, last),
            Action::PullDies(number) => {
                let pull = world.pulls.get_mut(number)?;
                if matches!(pull.step, PullStep::Begin | PullStep::Done | PullStep::Failed | PullStep::Died) {
                    return None;
                }
                pull.step = PullStep::Died;
                world.deaths_left = world.deaths_left.checked_sub(1)?;
            }
            Action::Unlabel => {
                (world.label && world.labeller == Labeller::Sure).then_some(())?;
                world.label = false;
            }
            Action::DeleteOld => {
                world.old.then_some(())?;
                world.old = false;
            }
            Action::DeletePulled(number) => {
                let pull = world.pulls.get_mut(number)?;
                pull.image.then_some(())?;
                pull.image = false;
            }
            Action::MarkReads => {
                let Round::Marking { next, exists, reached } = world.round else { return None };
                world.round = metadata::read(&mut world, next, exists, reached);
            }
            Action::CollectorDies => {
                (world.collector != Collector::Resting).then_some(())?;
                world.collector = Collector::Resting;
                world.deaths_left = world.deaths_left.checked_sub(1)?;
            }
            Action::DeletionArrives(number) => {
                (world.deletes & (1 << number) != 0).then_some(())?;
                collector::delivered(self, &mut world, number);
            }
            Action::AbsolutionArrives(number) => {
                (world.absolutions & (1 << number) != 0).then_some(())?;
                world.absolutions &= !(1 << number);
                metadata::absolve(self, &mut world, number);
            }
            Action::MetadataRestarts => {
                (world.round != Round::Idle).then_some(())?;
                world.restarts_left = world.restarts_left.checked_sub(1)?;
                metadata::restart(self, &mut world);
            }
            Action::LeaseExpires(number) => {
                self.has(Fence::LeaseEnds).then_some(())?;
                let pull = world.pulls.get_mut(number)?;
                (pull.lease == Lease::Running).then_some(())?;
                pull.lease = Lease::Over;
            }
            Action::CondemnationEnds => {
                self.has(Fence::CondemnationEnds).then_some(())?;
                world.ended |= 1 << world.condemned.take()?;
            }
            Action::RoundForgotten => {
                // Also of one whose collector lives and was only not heard; but not in the last round, as above.
                let nobody = !matches!(world.collector, Collector::AwaitsMark | Collector::Deciding);
                let unheard = nobody || !world.last_round;
                let forgotten = unheard && matches!(world.round, Round::Marked { .. } | Round::Decided { .. });
                (forgotten && self.has(Fence::RoundEnds)).then_some(())?;
                world.round = Round::Idle;
                world.noted = 0;
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all()
    }
}
