//! What metadata does with each call, one after another.

use crate::{
    fences::{Fence, Play},
    world::{Lease, Node, Reading, Round, World},
};

/// Notes a write, if a mark is in force.
fn keeps(play: &Play, world: &mut World, node: Node) {
    if world.round != Round::Idle && play.has(Fence::Barrier) {
        world.note(node);
    }
}

/// UNAVAILABLE: the caller tries again later.
fn barred(play: &Play, world: &World) -> bool {
    world.condemned.is_some() && play.has(Fence::CondemnationBars)
}

pub(crate) fn lease(play: &Play, world: &mut World, pull: usize) -> Option<()> {
    if barred(play, world) {
        return None;
    }
    world.pulls.get_mut(pull)?.lease = Lease::Running;
    keeps(play, world, Node::Blob);
    Some(())
}

pub(crate) fn record(play: &Play, world: &mut World) -> Option<()> {
    if barred(play, world) {
        return None;
    }
    world.record = true;
    keeps(play, world, Node::Blob);
    Some(())
}

pub(crate) fn put_image(play: &Play, world: &mut World, pull: usize) {
    if let Some(pull) = world.pulls.get_mut(pull) {
        pull.image = true;
    }
    keeps(play, world, Node::Pulled(pull));
}

pub(crate) fn label(play: &Play, world: &mut World) {
    world.label = true;
    keeps(play, world, Node::Holder);
}

/// Reads the next table of a mark.
pub(crate) fn read(world: &mut World, next: Reading, exists: bool, reached: bool) -> Round {
    let image = world.old || world.pulls.iter().any(|pull| pull.image);
    match next {
        Reading::Images => Round::Marking { next: Reading::Contents, exists, reached: reached || image },
        Reading::Contents => {
            Round::Marking { next: Reading::Leases, exists: world.record, reached: reached || world.label }
        }
        Reading::Leases => Round::Marked { garbage: exists && !reached && !world.leased() },
    }
}

/// Whether the sweep deletes the record: what was noted is kept, and what that refers to now.
pub(crate) fn decides(play: &Play, world: &World, garbage: bool) -> bool {
    let noted = world.is_noted(Node::Blob);
    let images = (0..).zip(&world.pulls).any(|(number, pull)| pull.image && world.is_noted(Node::Pulled(number)));
    let traced = images || (world.label && world.is_noted(Node::Holder)) || (world.old && world.is_noted(Node::Old));
    garbage && !noted && !(traced && play.has(Fence::Trace))
}

/// Grants a condemnation; its number.
pub(crate) fn condemn(play: &Play, world: &mut World) -> Option<u8> {
    let in_use = world.record || world.leased();
    if world.condemned.is_some() || (in_use && play.has(Fence::CondemnationLooks)) {
        return None;
    }
    let number = world.condemnations;
    world.condemnations += 1;
    world.condemned = Some(number);
    Some(number)
}

pub(crate) fn absolve(play: &Play, world: &mut World, number: u8) {
    if world.condemned == Some(number) || !play.has(Fence::OwnCondemnation) {
        world.condemned = None;
    }
}

/// It dies and comes back: what was in memory is lost.
pub(crate) fn restart(play: &Play, world: &mut World) {
    world.noted = 0;
    world.round = match world.round {
        _ if play.has(Fence::CompletedMark) => Round::Idle,
        // As if the round were what somebody else remembers of it.
        Round::Marking { exists, reached, .. } => Round::Marked { garbage: exists && !reached },
        round => round,
    };
}
