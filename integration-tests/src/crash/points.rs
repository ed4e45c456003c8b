//! Each fail point once: a scenario that comes to all of them is cut off at one, or meets one failing disk.

use std::{sync::Mutex, thread};

use anyhow::{Context as _, Result};
use berth_failpoint::{Kind as PointKind, Point};
use berth_testing::process::tail;

use super::{
    catalog::Catalog,
    check::{check, check_collected},
    daemon::{Daemon, Settings},
    ground::{Ground, Kind},
    ops::words,
    oracle::{Done, Oracle, Thing, Wish},
};

/// So many scenarios at once.
const WORKERS: usize = 4;
/// A disk that failed once works again: who tries again so often at most succeeds.
const TRIES: usize = 3;
/// Only writers that were taken for dead come here; `services/content/src/recovery.rs` does.
const UNREACHED: &[Point] = &[Point::ContentCopy];
/// A snapshot that a person makes.
const OWN: &str = "own";
const CALM: &str = "[gc]\nschedule = false\n";

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accident {
    /// The daemon dies there.
    Kill,
    /// The step fails once, with this word of an order: `enospc`, `eio`.
    Fail(&'static str),
}

/// Plays the scenario once for each point and accident. Answers what went wrong, each with its point.
pub async fn each_point(accidents: &[Accident]) -> Result<Vec<String>> {
    let catalog = Catalog::new().await?;
    let mut todo: Vec<(Point, Accident)> = Vec::new();
    for accident in accidents {
        let here = |point: &&Point| {
            !UNREACHED.contains(point) && (*accident == Accident::Kill || point.kind() != PointKind::Place)
        };
        todo.extend(Point::ALL.iter().filter(here).map(|point| (*point, *accident)));
    }
    tokio::task::spawn_blocking(move || {
        let (todo, offences) = (Mutex::new(todo), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    // Not in the loop's head: the lock would be held for all of its body.
                    let next = || todo.lock().ok()?.pop();
                    while let Some((point, accident)) = next() {
                        let found = play(&catalog, point, accident).unwrap_or_else(|error| vec![format!("{error:#}")]);
                        let found = found.into_iter().map(|line| format!("{} {accident:?}: {line}", point.name()));
                        if let Ok(mut offences) = offences.lock() {
                            offences.extend(found);
                        }
                    }
                });
            }
        });
        offences.into_inner().map_err(|_poisoned| anyhow::anyhow!("a scenario panicked"))
    })
    .await?
}

fn play(catalog: &Catalog, point: Point, accident: Accident) -> Result<Vec<String>> {
    let ground = Ground::new(Kind::Kill)?;
    let mut oracle = Oracle::default();
    let order = match accident {
        Accident::Kill => format!("{}=kill", point.name()),
        Accident::Fail(errno) => format!("{}={errno}", point.name()),
    };
    let variables = vec![(berth_failpoint::VARIABLE, order)];
    let mut daemon = Daemon::start(&ground.berth, "armed", &Settings { variables, file: CALM, boot_id: None })?;
    let mut offences = Vec::new();
    let mut failed = Vec::new();
    let mut clock = 0;
    if daemon.wait_until_ready(&ground.berth)? {
        'scenario: for step in scenario(catalog)? {
            for _ in 0..TRIES {
                let begin = clock + 1;
                clock += 2;
                let ended = ground.berth.run(step.words(catalog))?;
                let acknowledged = ended.code == 0;
                if let Step::Wish(wish) = &step {
                    let (namespace, wish) = ("default", wish.clone());
                    let done = Done { namespace, wish, begin, end: clock, acknowledged, refused: None };
                    oracle.hear(catalog, &done);
                }
                if acknowledged {
                    break;
                }
                if daemon.has_ended() {
                    break 'scenario;
                }
                failed.push(ended.stderr);
            }
        }
        if accident != Accident::Kill && !daemon.has_ended() {
            // The same daemon, which saw its disk fail, goes on.
            offences.extend(check(&ground.berth, catalog, &mut oracle)?);
        }
    } else {
        failed.push(daemon.log());
    }
    let log = daemon.log();
    if !log.contains(&format!("{}: {}: ", berth_failpoint::VARIABLE, point.name())) {
        offences.push("nothing came to this point".to_owned());
    }
    if let Accident::Fail(errno) = accident {
        offences.extend(wrong_failures(errno, &ground, &failed));
    }
    if log.contains("panicked at") {
        offences.push(format!("a panic:\n{}", tail(&log, 30)));
    }
    daemon.kill();
    let mut daemon = Daemon::start(&ground.berth, "after", &Settings { file: CALM, ..Settings::default() })?;
    if !daemon.wait_until_ready(&ground.berth)? {
        offences.push(format!("the store does not open:\n{}", daemon.log()));
        return Ok(offences);
    }
    // If it is there: a person's own snapshot is nothing that goes by itself.
    ground.berth.run(["snapshots", "rm", OWN])?;
    offences.extend(check(&ground.berth, catalog, &mut oracle)?);
    offences.extend(check_collected(&ground.berth, catalog, &mut oracle)?);
    Ok(offences)
}

/// What is told of a failing disk: what happened, and where.
fn wrong_failures(errno: &str, ground: &Ground, failed: &[String]) -> Vec<String> {
    let word = if errno == "enospc" { "No space left" } else { "Input/output error" };
    let place = ground.berth.root().display().to_string();
    let wrong = failed.iter().filter(|said| !said.contains(word) || !said.contains(&place));
    wrong.map(|said| format!("the failure does not say what happened and where: {said}")).collect()
}

/// A command of the scenario.
enum Step {
    Wish(Wish),
    /// Anything else.
    Words(Vec<String>),
}

impl Step {
    fn words(&self, catalog: &Catalog) -> Vec<String> {
        match self {
            Self::Wish(wish) => words(catalog, "default", wish),
            Self::Words(words) => words.clone(),
        }
    }
}

/// Commands that come to all points.
fn scenario(catalog: &Catalog) -> Result<Vec<Step>> {
    let image = catalog.images.first().context("there is an image")?;
    let [top, layer] = [image.chain.last(), image.digests.last()].map(|name| name.cloned().unwrap_or_default());
    let say = |text: &[&str]| Step::Words(text.iter().map(|word| (*word).to_owned()).collect());
    Ok(vec![
        Step::Wish(Wish::Pull(0, true)),
        say(&["snapshots", "prepare", OWN, &top]),
        say(&["snapshots", "rm", OWN]),
        Step::Wish(Wish::Pull(3, false)),
        Step::Wish(Wish::Remove(Thing::Snapshot(top))),
        Step::Wish(Wish::Remove(Thing::Content(layer))),
        Step::Wish(Wish::Pull(0, true)),
        Step::Wish(Wish::Remove(Thing::Image(image.reference.clone()))),
        Step::Wish(Wish::Collect),
        Step::Wish(Wish::Pull(0, true)),
    ])
}
