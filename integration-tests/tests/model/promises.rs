//! What must be so in every state, and at every end.

use stateright::{Model, Property};

use crate::{
    fences::Play,
    protocol::Action,
    world::{Labeller, Lease, PullStep, World},
};

pub(crate) const HELD: &str = "what an image or a label holds is there";
pub(crate) const LEASED: &str = "what a running lease holds is there";
pub(crate) const RECORDED: &str = "what is recorded is there";
pub(crate) const GONE: &str = "what nobody needs is gone in the end";
pub(crate) const NOBODY_WAITS: &str = "nobody waits for ever";

pub(crate) const ALL: [&str; 5] = [HELD, LEASED, RECORDED, GONE, NOBODY_WAITS];

pub(crate) fn all() -> Vec<Property<Play>> {
    vec![
        Property::always(HELD, |_, world: &World| !is_held(world) || (world.record && world.bytes)),
        Property::always(LEASED, |_, world: &World| {
            world.pulls.iter().all(|pull| {
                let under_lease = pull.lease == Lease::Running;
                let told = matches!(pull.step, PullStep::Ready | PullStep::Recorded);
                let recorded = pull.step == PullStep::Recorded;
                !under_lease || ((!told || world.bytes) && (!recorded || world.record))
            })
        }),
        Property::always(RECORDED, |_, world: &World| !world.record || world.bytes),
        Property::always(GONE, |play, world: &World| {
            world.needed() || !(world.record || world.bytes) || !is_end(play, world)
        }),
        Property::always(NOBODY_WAITS, |play, world: &World| world.is_quiet() || !is_end(play, world)),
        // That it was explored at all.
        Property::sometimes("a pull is done", |_, world: &World| {
            world.pulls.iter().all(|pull| pull.step != PullStep::Begin) && world.pulls.iter().any(|pull| pull.image)
        }),
        Property::sometimes("a pull fails by its lease", |_, world: &World| {
            world.pulls.iter().any(|pull| pull.step == PullStep::Failed && pull.lease == Lease::Over)
        }),
        Property::sometimes("the blob goes while a pull runs", |_, world: &World| {
            !world.bytes && world.pulls.iter().any(|pull| pull.step == PullStep::Leased)
        }),
    ]
}

/// Acknowledged to somebody who refers to it.
fn is_held(world: &World) -> bool {
    world.old || world.pulls.iter().any(|pull| pull.image) || (world.label && world.labeller == Labeller::Sure)
}

/// Nothing can happen any more.
fn is_end(play: &Play, world: &World) -> bool {
    Action::all(world).all(|action| play.next_state(world, action).is_none())
}
