//! What a collector does, step by step: mark, sweep, condemn, delete, absolve.

use crate::{
    fences::{Fence, Play},
    metadata,
    world::{Collector, Reading, Round, World},
};

/// Its next step; `None` if it waits or has nothing to do.
pub(crate) fn step(play: &Play, world: &World) -> Option<World> {
    let mut world = world.clone();
    world.collector = match world.collector {
        Collector::Resting => {
            begin(&mut world)?;
            Collector::AwaitsMark
        }
        Collector::AwaitsMark => match world.round {
            Round::Marked { garbage } => {
                let delete = metadata::decides(play, &world, garbage);
                if play.has(Fence::OneChange) {
                    sweep(&mut world, delete)
                } else {
                    world.round = Round::Decided { delete };
                    Collector::Deciding
                }
            }
            // Metadata was restarted: the sweep is refused, and so is the round.
            Round::Idle | Round::Decided { .. } => Collector::Resting,
            Round::Marking { .. } => return None,
        },
        Collector::Deciding => match world.round {
            Round::Decided { delete } => sweep(&mut world, delete),
            _ => Collector::Resting,
        },
        // It goes through the store's blobs and asks for leave to delete.
        Collector::Swept => match world.bytes.then(|| metadata::condemn(play, &mut world)).flatten() {
            Some(number) => Collector::Condemned(number),
            None => Collector::Resting,
        },
        Collector::Condemned(number) => {
            world.deletes |= 1 << number;
            Collector::AwaitsAnswer(number)
        }
        Collector::AwaitsAnswer(_) => return None,
        Collector::Absolves(number) => {
            world.absolutions |= 1 << number;
            Collector::Resting
        }
    };
    Some(world)
}

/// Begins a round: some while others work, and a last one when all is quiet.
fn begin(world: &mut World) -> Option<()> {
    if world.round != Round::Idle {
        return None;
    }
    if world.rounds_left > 0 {
        world.rounds_left -= 1;
    } else if world.is_quiet() && !world.last_round {
        world.last_round = true;
        world.deaths_left = 0;
        world.restarts_left = 0;
    } else {
        return None;
    }
    world.noted = 0;
    world.round = Round::Marking { next: Reading::Images, exists: false, reached: false };
    Some(())
}

fn sweep(world: &mut World, delete: bool) -> Collector {
    if delete {
        world.record = false;
    }
    world.round = Round::Idle;
    world.noted = 0;
    Collector::Swept
}

/// The store gets a deletion.
pub(crate) fn delivered(play: &Play, world: &mut World, number: u8) {
    world.deletes &= !(1 << number);
    if world.ended & (1 << number) == 0 || !play.has(Fence::NotAfter) {
        world.bytes = false;
    }
    if world.collector == Collector::AwaitsAnswer(number) {
        world.collector = Collector::Absolves(number);
    }
}

/// The collector does not hear of its deletion.
pub(crate) fn times_out(play: &Play, world: &World) -> Option<World> {
    let Collector::AwaitsAnswer(number) = world.collector else { return None };
    let mut world = world.clone();
    world.collector = if play.has(Fence::AnswerFirst) { Collector::Resting } else { Collector::Absolves(number) };
    Some(world)
}
