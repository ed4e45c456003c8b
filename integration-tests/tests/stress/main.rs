//! Lease against collection on the real services: many pull, lease, label, delete and collect at once.
//!
//! Metadata and content run on a bus in this process, with their real files; everybody else does what the protocol says,
//! at random speed; collectors die in the middle and their messages come late. With all fences nothing that is held is
//! ever missing, and what nobody holds is gone in the end. Without any one of them something is lost, each time.
//!
//! `BERTH_STRESS_SECONDS` makes it longer, `BERTH_STRESS_SEED` begins with another seed; each run prints its own. A seed
//! fixes what everybody does and not the order in which threads run, so a run may need to be repeated to fail again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod collector;
mod labeller;
mod pull;
mod service;
mod staged;
mod world;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use berth_metadata::Fence;
use berth_wire::metadata::ListContentRequest;
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use world::{Crowd, Without, World};

const BUSY: Crowd = Crowd { pulls: 4, labellers: 4, collectors: 2, service: false, pause: Duration::from_millis(1) };
const QUIET: Crowd = Crowd { pulls: 3, labellers: 1, collectors: 4, service: false, pause: Duration::from_millis(200) };
const SERVED: Crowd = Crowd { collectors: 0, service: true, ..BUSY };

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// Lets everybody loose for a while, or until something is lost.
async fn run(seed: u64, crowd: Crowd, without: Option<Without>, time: Duration) -> Arc<World> {
    let world = Arc::new(World::new(seed, crowd, without).await);
    let mut everybody = JoinSet::new();
    let mut seeds = (0_u64..).map(|n| StdRng::seed_from_u64(seed.wrapping_mul(1000).wrapping_add(n)));
    let mut rng = || seeds.next().unwrap();
    for number in 0..crowd.pulls {
        everybody.spawn(pull::pull_again_and_again(Arc::clone(&world), number, rng()));
    }
    for number in 0..crowd.labellers {
        everybody.spawn(labeller::label_again_and_again(Arc::clone(&world), number, rng()));
    }
    for _ in 0..crowd.collectors {
        everybody.spawn(collector::collect_again_and_again(Arc::clone(&world), rng()));
    }
    if crowd.service {
        everybody.spawn(service::collect_again_and_again(Arc::clone(&world)));
    }
    everybody.spawn(pull::end_leases(Arc::clone(&world), rng()));
    let begun = Instant::now();
    while begun.elapsed() < time && !world.is_stopped() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.stop();
    while let Some(ended) = everybody.join_next().await {
        ended.unwrap();
    }
    println!("seed {seed} {crowd:?} without {without:?} for {:?}: {:?}", begun.elapsed(), world.counts);
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_held_is_ever_missing_and_all_else_goes() {
    nothing_is_lost(BUSY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_where_collectors_meet_each_other() {
    nothing_is_lost(QUIET).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_by_the_gc_service() {
    nothing_is_lost(SERVED).await;
}

async fn nothing_is_lost(crowd: Crowd) {
    let seed = setting("BERTH_STRESS_SEED", 1);
    let time = Duration::from_secs(setting("BERTH_STRESS_SECONDS", 10));
    let world = run(seed, crowd, None, time).await;
    assert_eq!(world.lost(), None, "seed {seed}");
    for (what, counter) in [
        ("pulls", &world.counts.pulled),
        ("fetches", &world.counts.fetched),
        ("pulls that lost their lease", &world.counts.leases_lost),
        ("labels", &world.counts.labelled),
        ("rounds", &world.counts.rounds),
        ("swept records", &world.counts.swept),
        ("deleted blobs", &world.counts.deleted),
        ("deletions that came too late", &world.counts.refused),
    ] {
        if crowd.service && what == "deletions that came too late" {
            continue;
        }
        let count = counter.load(std::sync::atomic::Ordering::Relaxed);
        assert!(count > 3, "only {count} {what} in {time:?}: this tested nothing");
    }
    let left =
        if crowd.service { service::collect_the_rest(&world).await } else { collector::collect_the_rest(&world).await };
    assert_eq!(left, Vec::<String>::new(), "seed {seed}");
    for namespace in ["a", "b"] {
        let request = ListContentRequest { namespace: namespace.into(), ..Default::default() };
        assert_eq!(world.metadata.list_content(request).await.unwrap().contents, [], "seed {seed}");
    }
}

/// Until something is lost without the fence.
async fn is_needed(without: Without) {
    let first = setting("BERTH_STRESS_SEED", 1);
    for seed in first..first + 6 {
        for crowd in [BUSY, QUIET] {
            if let Some(lost) = run(seed, crowd, Some(without), Duration::from_secs(8)).await.lost() {
                println!("without {without:?}: {lost}");
                return;
            }
        }
    }
    panic!("nothing was lost without {without:?}, with seeds from {first} on: is it needed, or the test too tame?");
}

macro_rules! each_is_needed {
    ($($name:ident: $without:expr),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() {
            is_needed($without).await;
        })*
    };
}

each_is_needed! {
    the_barrier_is_needed: Without::OfMetadata(Fence::Barrier),
    following_the_noted_is_needed: Without::OfMetadata(Fence::Trace),
    one_change_is_needed: Without::OfMetadata(Fence::OneChange),
    a_completed_mark_is_needed: Without::OfMetadata(Fence::CompletedMark),
    a_condemnation_must_look: Without::OfMetadata(Fence::CondemnationLooks),
    a_condemnation_must_bar: Without::OfMetadata(Fence::CondemnationBars),
    a_lease_must_run_to_the_records: Without::OfMetadata(Fence::LeaseRuns),
    an_end_of_leave_is_needed: Without::NotAfter,
    the_answer_must_come_first: Without::AnswerFirst,
    the_lease_must_come_first: Without::LeaseFirst,
}
