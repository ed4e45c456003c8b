//! What a pull does, step by step; and who names the blob in a label.

use crate::{
    fences::{Fence, Play},
    metadata,
    world::{Labeller, Lease, Pull, PullStep, World},
};

/// The next step of a pull; `None` if it waits or is at its end.
pub(crate) fn step(play: &Play, world: &World, number: usize) -> Option<World> {
    let mut world = world.clone();
    let Pull { step, lease, .. } = *world.pulls.get(number)?;
    let next = match step {
        PullStep::Begin if play.has(Fence::LeaseFirst) => {
            metadata::lease(play, &mut world, number)?;
            PullStep::Leased
        }
        PullStep::Begin => PullStep::Asked { there: world.bytes },
        PullStep::Asked { there } => {
            metadata::lease(play, &mut world, number)?;
            if there { PullStep::Ready } else { PullStep::Fetching }
        }
        PullStep::Leased if world.bytes => PullStep::Ready,
        PullStep::Leased => PullStep::Fetching,
        PullStep::Fetching => {
            world.bytes = true;
            PullStep::Ready
        }
        PullStep::Ready | PullStep::Recorded if lease != Lease::Running && play.has(Fence::LeaseRuns) => {
            PullStep::Failed
        }
        PullStep::Ready => {
            metadata::record(play, &mut world)?;
            PullStep::Recorded
        }
        PullStep::Recorded => {
            metadata::put_image(play, &mut world, number);
            PullStep::Done
        }
        // The lease is ended after the answer: whether it is, the collector must not care.
        PullStep::Done | PullStep::Failed if lease == Lease::Running => {
            world.pulls.get_mut(number)?.lease = Lease::None;
            step
        }
        PullStep::Done | PullStep::Failed | PullStep::Died => return None,
    };
    world.pulls.get_mut(number)?.step = next;
    Some(world)
}

/// The next step of the labeller: it names first and looks then.
pub(crate) fn label(play: &Play, world: &World) -> Option<World> {
    let mut world = world.clone();
    world.labeller = match world.labeller {
        Labeller::Begin => {
            metadata::label(play, &mut world);
            Labeller::Named
        }
        Labeller::Named if world.record => Labeller::Sure,
        Labeller::Named => {
            world.label = false;
            Labeller::Over
        }
        Labeller::Sure | Labeller::Over => return None,
    };
    Some(world)
}
