//! The rounds: start, use, accident, start again, look.

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use berth_failpoint::{Kind as PointKind, Point};

use super::{
    catalog::Catalog,
    check::{check, check_collected},
    daemon::{Daemon, Settings},
    ground::{Ground, Kind},
    look,
    ops::{Bell, work},
    oracle::{Done, NAMESPACES, Oracle, Wish},
};
use crate::chance::Chance;

/// So many people use the store at once.
const WORKERS: usize = 3;
/// A fail point that is not reached by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// A daemon that is used collects whenever it can.
const BUSY: &str = "[gc]\nstartup_delay = \"0s\"\nmutation_threshold = 5\ndeletion_threshold = 1\npause_threshold = 0.5\n\
    interval = \"2s\"\ningest_age = \"2s\"\n";
/// A daemon that is looked at does not change meanwhile.
const CALM: &str = "[gc]\nschedule = false\n";

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// All choices come from it.
    pub seed: u64,
    /// The first round and the one behind the last: a single round can be played again alone.
    pub rounds: std::ops::Range<usize>,
    /// How rounds end.
    pub kind: Kind,
    /// Of what the disk had not flushed, nothing survives.
    pub lose_all: bool,
    /// Only fetch: what unpacking flushes hides what fetching does not.
    pub fetch_only: bool,
    /// Environment of every daemon, armed or not (`BERTH_DURABILITY`).
    pub settings: Vec<(&'static str, String)>,
    /// Fail points of every round, in the place of chosen ones.
    pub orders: Option<String>,
}

impl Plan {
    /// So many rounds of accidents of every kind.
    #[must_use]
    pub fn new(kind: Kind, seed: u64, rounds: usize) -> Self {
        Self { seed, rounds: 0..rounds, kind, lose_all: false, fetch_only: false, settings: Vec::new(), orders: None }
    }
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Rounds played.
    pub rounds: usize,
    /// Commands given, and how many of them were acknowledged.
    pub commands: usize,
    /// Acknowledged ones.
    pub acknowledged: usize,
    /// Rounds that ended at a fail point.
    pub at_points: usize,
    /// Offences, and the round they were seen after. A run ends with the first round that has some.
    pub offences: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, commands, acknowledged, at_points, offences } = self;
        write!(
            f,
            "{rounds} rounds, {at_points} of them ended at a fail point; {commands} commands, {acknowledged} of them "
        )?;
        writeln!(f, "acknowledged; {} offences", offences.len())?;
        offences.iter().try_for_each(|offence| writeln!(f, "  {offence}"))
    }
}

/// Plays the rounds. An error is the test's own.
pub async fn run(plan: &Plan) -> Result<Report> {
    let catalog = Catalog::new().await?;
    let plan = plan.clone();
    // Its threads wait for processes: they must not be in the way of the registry, which runs here.
    tokio::task::spawn_blocking(move || play(&plan, &catalog)).await?
}

fn play(plan: &Plan, catalog: &Catalog) -> Result<Report> {
    let mut ground = Ground::new(plan.kind)?;
    let mut oracle = Oracle::default();
    let mut report = Report::default();
    for round in plan.rounds.clone() {
        let begun = Instant::now();
        let mut chance = Chance::new(plan.seed ^ (round as u64).wrapping_mul(0x9E37_79B9));
        let orders = plan.orders.clone().or_else(|| choose_orders(&mut chance));
        let shown = format!(
            "seed {} round {round} ({:?}, {})",
            plan.seed,
            plan.kind,
            orders.as_deref().unwrap_or("any moment")
        );
        let done = accident(plan, catalog, &mut ground, &mut chance, orders.as_deref(), round, &mut report);
        let done = done.with_context(|| shown.clone())?;
        report.rounds += 1;
        report.commands += done.len();
        report.acknowledged += done.iter().filter(|done| done.acknowledged).count();
        // A disk that fails as ordered makes pulls fail, as it should.
        let disk_fails = orders.as_deref().is_some_and(|orders| orders.contains("=eio"));
        let mut offences = if disk_fails { Vec::new() } else { refusals(&done) };
        done.iter().for_each(|done| oracle.hear(catalog, done));
        offences.extend(after(plan, catalog, &ground, &mut oracle, round).with_context(|| shown.clone())?);
        eprintln!("{shown}: {} commands, {:.1} s", done.len(), begun.elapsed().as_secs_f64());
        if !offences.is_empty() {
            report.offences = offences.into_iter().map(|offence| format!("{shown}: {offence}")).collect();
            tell(catalog, &done);
            ground.keep();
            return Ok(report);
        }
    }
    report.offences = last(plan, catalog, &ground)?;
    Ok(report)
}

/// What was done in a round, for whoever looks for the reason.
fn tell(catalog: &Catalog, done: &[Done]) {
    let mut done: Vec<&Done> = done.iter().collect();
    done.sort_by_key(|done| done.begin);
    for Done { namespace, wish, begin, end, acknowledged, .. } in done {
        eprintln!("  {begin}..{end} {namespace} {wish:?} acknowledged: {acknowledged}");
    }
    for (number, image) in catalog.images.iter().enumerate() {
        eprintln!("  image {number}: {}, documents {:?}, chain {:?}", image.reference, image.documents, image.chain);
    }
}

/// At which point the daemon is to die; `None`: at a moment of our choice.
fn choose_orders(chance: &mut Chance) -> Option<String> {
    match chance.below(10) {
        0..3 => None,
        3..7 => {
            let point = chance.pick(Point::ALL)?;
            let most = chance.pick(&[1, 1, 3, 12]).copied().unwrap_or(1);
            Some(format!("{}=kill@{}", point.name(), 1 + chance.below(most)))
        }
        7 => {
            // A disk that fails once, and then an end at any moment.
            let steps: Vec<&Point> = Point::ALL.iter().filter(|point| point.kind() != PointKind::Place).collect();
            let point = chance.pick(&steps)?;
            Some(format!("{}=eio@{};any=kill@{}", point.name(), 1 + chance.below(6), 1 + chance.below(900)))
        }
        _ => Some(format!("any=kill@{}", 1 + chance.below(900))),
    }
}

/// One life of a daemon and its end.
fn accident(
    plan: &Plan,
    catalog: &Catalog,
    ground: &mut Ground,
    chance: &mut Chance,
    orders: Option<&str>,
    round: usize,
    report: &mut Report,
) -> Result<Vec<Done>> {
    let mut variables = plan.settings.clone();
    variables.extend(orders.map(|orders| (berth_failpoint::VARIABLE, orders.to_owned())));
    let settings = Settings { variables, file: BUSY, boot_id: ground.boot_id() };
    let mut daemon = Daemon::start(&ground.berth, &format!("round-{round}"), &settings)?;
    let moment = Duration::from_millis(20 + chance.below(1500) as u64);
    let patience = if orders.is_some() && plan.orders.is_none() { PATIENCE } else { moment };
    let hands: Vec<Chance> = (0..WORKERS).map(|_| chance.branch()).collect();
    let bell = Bell::default();
    let mut done = Vec::new();
    let mut survivor = None;
    if daemon.wait_until_ready(&ground.berth)? {
        let begun = Instant::now();
        thread::scope(|scope| {
            let berth = &ground.berth;
            let people: Vec<_> = hands
                .into_iter()
                .map(|hand| scope.spawn(|| work(berth, catalog, &bell, hand, plan.fetch_only)))
                .collect();
            while begun.elapsed() < patience && !daemon.has_ended() {
                thread::sleep(Duration::from_millis(2));
            }
            report.at_points += usize::from(daemon.has_ended());
            match plan.kind {
                Kind::Kill => bell.stop(),
                Kind::PowerCut => {
                    bell.cut();
                    survivor = ground.cut(chance, plan.lose_all);
                }
            }
            if plan.kind == Kind::Kill {
                daemon.kill();
            }
            for person in people {
                match person.join() {
                    Ok(told) => done.extend(told?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            anyhow::Ok(())
        })?;
    } else {
        report.at_points += 1;
    }
    let survivor = survivor.or_else(|| ground.cut(chance, plan.lose_all));
    daemon.kill();
    anyhow::ensure!(!daemon.log().contains("panicked at"), "a panic:\n{}", daemon.log());
    ground.restart(survivor)?;
    Ok(done)
}

/// Commands that failed although nothing was wrong. Who removes what others are just making may be told so.
fn refusals(done: &[Done]) -> Vec<String> {
    let overlaps = |one: &Done, other: &Done| one.begin < other.end && other.begin < one.end;
    let disturbed =
        |pull: &Done| done.iter().any(|other| matches!(other.wish, Wish::Remove(_)) && overlaps(pull, other));
    let pulls = done.iter().filter(|done| matches!(done.wish, Wish::Pull(..)) && !disturbed(done));
    pulls.filter_map(|pull| pull.refused.as_ref().map(|said| format!("{:?} failed: {said}", pull.wish))).collect()
}

/// Starts again, unarmed, and looks.
fn after(plan: &Plan, catalog: &Catalog, ground: &Ground, oracle: &mut Oracle, round: usize) -> Result<Vec<String>> {
    let name = format!("after-{round}");
    let mut daemon = Daemon::start(&ground.berth, &name, &calm(plan, ground))?;
    if !daemon.wait_until_ready(&ground.berth)? {
        return Ok(vec![format!("the store does not open:\n{}", daemon.log())]);
    }
    let mut offences = check(&ground.berth, catalog, oracle)?;
    if offences.is_empty() && round % 4 == 3 {
        offences.extend(check_collected(&ground.berth, catalog, oracle)?);
    }
    if daemon.log().contains("panicked at") {
        offences.push(format!("a panic:\n{}", daemon.log()));
    }
    Ok(offences)
}

fn calm(plan: &Plan, ground: &Ground) -> Settings {
    Settings { variables: plan.settings.clone(), file: CALM, boot_id: ground.boot_id() }
}

/// At the end everything still works: each image can be pulled, whatever was left of it.
fn last(plan: &Plan, catalog: &Catalog, ground: &Ground) -> Result<Vec<String>> {
    let berth = &ground.berth;
    let mut daemon = Daemon::start(berth, "last", &calm(plan, ground))?;
    anyhow::ensure!(daemon.wait_until_ready(berth)?, "the store does not open:\n{}", daemon.log());
    let mut oracle = Oracle::default();
    let mut offences = Vec::new();
    for namespace in NAMESPACES {
        for (number, image) in catalog.images.iter().enumerate() {
            let pulled = berth.run(["-n", namespace, "pull", "--plain-http", "--quiet", &image.reference])?;
            if pulled.code != 0 {
                offences.push(format!("at the end {} cannot be pulled: {}", image.reference, pulled.stderr));
            }
            let wish = Wish::Pull(number, true);
            oracle.hear(catalog, &Done { namespace, wish, begin: 1, end: 2, acknowledged: true, refused: None });
        }
    }
    offences.extend(check(berth, catalog, &mut oracle)?);
    for namespace in NAMESPACES {
        let names = catalog.images.iter().map(|image| image.reference.as_str());
        berth.ok(["-n", namespace, "images", "rm"].into_iter().chain(names))?;
    }
    offences.extend(check_collected(berth, catalog, &mut oracle)?);
    if !look::blob_files(berth.root())?.is_empty() {
        offences.push("without images there are blobs".to_owned());
    }
    Ok(offences)
}
