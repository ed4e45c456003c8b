//! Kills and power cuts, shortly. `scripts/crash` goes on for as long as one likes; `BERTH_CRASH_SEED` plays a seed again.

use std::env;

use anyhow::{Context as _, Result};
use berth_integration_tests::crash::{Accident, Kind, Plan, Report, each_point, run};

fn seed() -> Result<u64> {
    match env::var("BERTH_CRASH_SEED") {
        Ok(text) => text.parse().context("BERTH_CRASH_SEED is no number"),
        Err(_unset) => Ok(1),
    }
}

fn assert_kept(plan: &Plan, report: &Report) {
    eprint!("{report}");
    assert!(report.offences.is_empty(), "seed {}: the program did not keep its word\n{report}", plan.seed);
    assert_eq!(report.rounds, plan.rounds.len());
    assert!(report.acknowledged > 50 && report.at_points > 2, "that was no test: {report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_daemon_keeps_its_word() -> Result<()> {
    let plan = Plan::new(Kind::Kill, seed()?, 25);
    assert_kept(&plan, &run(&plan).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_takes_nothing_that_was_told() -> Result<()> {
    let plan = Plan::new(Kind::PowerCut, seed()?, 15);
    assert_kept(&plan, &run(&plan).await?);
    Ok(())
}

/// At each fail point the daemon dies once, and each step of the disk fails once, full and broken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fail_point_once() -> Result<()> {
    let offences = each_point(&[Accident::Kill, Accident::Fail("enospc"), Accident::Fail("eio")]).await?;
    assert_eq!(offences, Vec::<String>::new());
    Ok(())
}

/// Cuts the power, with all losses that an honest disk may have, until something that was promised is gone.
async fn assert_found(what: &str, change: impl FnOnce(&mut Plan)) -> Result<()> {
    let mut plan = Plan::new(Kind::PowerCut, seed()?, 20);
    plan.lose_all = true;
    // No fail points but those the change asks for: an accident at any moment.
    plan.orders = Some(String::new());
    change(&mut plan);
    let report = run(&plan).await?;
    assert!(!report.offences.is_empty(), "{what}, and {} rounds did not show it\n{report}", report.rounds);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_durability_a_power_cut_takes_something() -> Result<()> {
    assert_found("nothing is flushed", |plan| plan.settings.push(("BERTH_DURABILITY", "none".to_owned()))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_not_flushed_is_found() -> Result<()> {
    assert_found("the stores' logs are not flushed", |plan| plan.orders = Some("kv.flush=skip".to_owned())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_that_are_not_flushed_are_found() -> Result<()> {
    assert_found("snapshots are not flushed", |plan| plan.orders = Some("snapshot.flush=skip".to_owned())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_that_are_not_flushed_are_found() -> Result<()> {
    let change = |plan: &mut Plan| {
        plan.orders = Some("content.flush=skip".to_owned());
        plan.fetch_only = true;
    };
    assert_found("blobs are not flushed", change).await
}
