//! `scripts/crash`: the crash test for as long as one likes.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use berth_integration_tests::crash::{Accident, Kind, Plan, each_point, run};
use clap::Parser;

/// Kills the real daemon again and again and checks that it keeps its word.
#[derive(Debug, Parser)]
struct Options {
    /// What all choices come from; by default the time. It is printed
    #[arg(long)]
    seed: Option<u64>,
    /// So many rounds
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Begin with this round: plays one again without those before
    #[arg(long, default_value_t = 0)]
    from: usize,
    /// Cut the power of daemon and disk instead of killing the daemon
    #[arg(long)]
    power_cut: bool,
    /// Of what the disk had not flushed, let nothing survive
    #[arg(long)]
    lose_all: bool,
    /// Pull without unpacking
    #[arg(long)]
    fetch_only: bool,
    /// Fail points for every round (BERTH_FAILPOINTS), in the place of chosen ones
    #[arg(long)]
    orders: Option<String>,
    /// Instead of rounds: a scenario for each fail point, which dies there, or fails there once
    #[arg(long)]
    each_point: bool,
    /// The setting of the daemon: synced or none
    #[arg(long)]
    durability: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let time = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let kind = if options.power_cut { Kind::PowerCut } else { Kind::Kill };
    let mut plan = Plan::new(kind, options.seed.unwrap_or(time), 0);
    plan.rounds = options.from..options.from + options.rounds;
    plan.lose_all = options.lose_all;
    plan.fetch_only = options.fetch_only;
    plan.settings.extend(options.durability.map(|durability| ("BERTH_DURABILITY", durability)));
    plan.orders = options.orders;
    if options.each_point {
        let accidents = [Accident::Kill, Accident::Fail("enospc"), Accident::Fail("eio")];
        let offences = each_point(&accidents).await?;
        offences.iter().for_each(|offence| eprintln!("{offence}"));
        ensure!(offences.is_empty(), "{} offences", offences.len());
        return Ok(());
    }
    eprintln!("seed {}", plan.seed);
    let report = run(&plan).await?;
    eprint!("{report}");
    ensure!(report.offences.is_empty(), "seed {}: the program did not keep its word", plan.seed);
    Ok(())
}
