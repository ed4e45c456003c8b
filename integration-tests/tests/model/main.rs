//! Lease against collection: a model of the protocol, explored in every order of its steps.
//!
//! One blob, an image that has it from the beginning, pulls of it, somebody who names it in a label, deletions, and a
//! collector that marks, sweeps, condemns, deletes and absolves; everybody may die between two steps, metadata may be
//! restarted, leases and condemnations end by time. Nothing in the model knows a clock: what may happen by time may
//! happen at any moment, and that includes every clock.
//!
//! With all fences every order keeps the promises; without any one of them there is an order that breaks one, and it is
//! printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod collector;
mod fences;
mod metadata;
mod promises;
mod protocol;
mod pull;
mod world;

use fences::{Fence, Play};
use stateright::{Checker, HasDiscoveries, Model};

const SMALL: [Play; 2] =
    [Play { pulls: 1, labeller: true, without: None }, Play { pulls: 2, labeller: false, without: None }];
const LARGE: Play = Play { pulls: 2, labeller: true, without: None };

/// Explores until a promise is broken, or all.
fn explore(play: Play) -> impl Checker<Play> {
    let checker = play.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{play:?}: {} states, depth {}", checker.unique_state_count(), checker.max_depth());
    checker
}

fn keeps_its_promises(play: Play) {
    let checker = explore(play);
    checker.assert_properties();
    assert!(checker.is_done() && checker.unique_state_count() > 50_000, "too little was explored to mean anything");
}

#[test]
fn with_all_fences_every_order_keeps_the_promises() {
    SMALL.into_iter().for_each(keeps_its_promises);
}

/// Over a million states: some seconds.
#[test]
fn with_all_fences_and_everybody_too() {
    keeps_its_promises(LARGE);
}

/// The promises that are broken without a fence, each with an order that breaks it.
fn broken_without(fence: Fence) -> Vec<&'static str> {
    let mut broken = Vec::new();
    for play in SMALL {
        let checker = explore(Play { without: Some(fence), ..play });
        for promise in promises::ALL {
            if let Some(path) = checker.discovery(promise) {
                println!("without {fence:?} not so: {promise}");
                path.into_actions().iter().for_each(|action| println!("  {action:?}"));
                broken.push(promise);
            }
        }
    }
    broken
}

#[test]
fn without_any_one_fence_something_is_lost() {
    for fence in Fence::AGAINST_LOSS {
        let broken = broken_without(fence);
        let lost = [promises::HELD, promises::LEASED, promises::RECORDED];
        assert!(broken.iter().any(|promise| lost.contains(promise)), "without {fence:?} only {broken:?} is broken");
    }
}

#[test]
fn without_an_end_by_itself_the_dead_bar_the_living() {
    for fence in Fence::AGAINST_WAITING {
        let broken = broken_without(fence);
        let late = [promises::GONE, promises::NOBODY_WAITS];
        assert!(broken.iter().any(|promise| late.contains(promise)), "without {fence:?} only {broken:?} is broken");
    }
}
