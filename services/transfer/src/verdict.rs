//! Why a pull took as long as it did. Pure: from what was taken down to shares of its time, and a sentence.
//!
//! The critical path is found backwards. At the end of the pull, whatever ended last was waited for; at its beginning,
//! whatever ended last before that; and so on. An unpacking that overlaps the fetch of its own blob counts from the fetch's
//! end on: before that it waited for bytes.

use std::{collections::BTreeMap, time::Duration};

use berth_model::Digest;
use berth_telemetry::account::micros;
use berth_wire::metadata::{
    Verdict,
    verdict::{Share, Step as Shown},
};

use crate::ledger::{Facts, Step, What};

/// What a fetch may be at; what is left of its time it lay in the fetchers' queue.
const OF_FETCH: [&str; 10] = [
    "answer",
    "transfer",
    "processor",
    "disk",
    "unpack",
    "commit",
    "rate limit",
    "retry",
    "another flight",
    "other large downloads",
];
/// The stages of an unpacking that work; the busiest is what its tail waited for.
const OF_UNPACK: [&str; 3] = ["inflate", "hash", "untar"];
/// Time in which nothing was done for this pull.
const WAITS: [&str; 9] = [
    "turn",
    "queue",
    "rate limit",
    "retry",
    "another flight",
    "other large downloads",
    "another unpacking",
    "processor",
    "disk",
];

/// Judges a pull of an image of this registry.
pub(crate) fn judge(facts: &Facts, host: &str) -> Verdict {
    let mut path: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut downloading = 0;
    for (step, from) in critical(facts) {
        downloading += came_in(facts, &step);
        share_out(facts, &step, step.end.saturating_sub(from), &mut path);
    }
    let total = micros(facts.total);
    let told: u64 = path.values().sum();
    if total > told {
        *path.entry("other").or_default() += total - told;
    }
    let mut verdict = Verdict {
        total_us: total,
        path: sorted(path),
        waits: waits(facts),
        from_registry: facts.from_registry,
        present: facts.present,
        from_other_pulls: facts.from_other_pulls,
        retries: facts.retries.clone(),
        retried_hosts: facts.retried_hosts.clone(),
        host: host.to_owned(),
        steps: shown(&facts.steps),
        sentence: String::new(),
    };
    verdict.sentence = sentence(&verdict, downloading);
    verdict
}

/// The steps of the critical path, the last one first, and from when on each counts.
fn critical(facts: &Facts) -> Vec<(Step, Duration)> {
    let mut steps = facts.steps.clone();
    steps.sort_by_key(|step| step.end);
    let mut path = Vec::new();
    let mut at = facts.total;
    while let Some(last) = steps.iter().rposition(|step| step.end <= at) {
        steps.truncate(last + 1);
        let Some(step) = steps.pop() else { break };
        let fetched = |other: &&Step| other.what == What::Fetch && other.subject == step.subject;
        let from = match step.what {
            What::Unpack => steps.iter().rfind(fetched).map_or(step.begin, |fetch| fetch.end.max(step.begin)),
            // The place may have been taken by another blob of this pull; then that one was waited for.
            What::FetchTurn => freed(&steps, What::Fetch, &step),
            What::UnpackTurn => freed(&steps, What::Unpack, &step),
            _ => step.begin,
        };
        path.push((step, from));
        at = from;
    }
    path
}

/// When a step of this kind freed its place for the one that waits: from then on others were to blame.
fn freed(before: &[Step], what: What, turn: &Step) -> Duration {
    let last = before.iter().rfind(|other| other.what == what && other.end > turn.begin);
    last.map_or(turn.begin, |other| other.end)
}

/// The stage of a layer's unpacking that worked longest, and what it was at.
fn worked_on(facts: &Facts, step: &Step, worked: u64, path: &mut BTreeMap<&'static str, u64>) {
    let spent = step.subject.and_then(|subject| facts.spent.get(&(subject, What::Unpack)));
    let of = |what: &str| spent.and_then(|spent| spent.get(what)).copied().unwrap_or_default();
    let stage = busiest(&of).unwrap_or("unpack");
    let mut left = worked;
    for lacked in ["processor", "disk"] {
        let all = u128::from(of(&format!("{stage}: {lacked}"))) * u128::from(worked);
        let share = all.checked_div(u128::from(of(stage))).and_then(|share| u64::try_from(share).ok());
        let share = share.unwrap_or_default().min(left);
        left -= share;
        *path.entry(lacked).or_default() += share;
    }
    *path.entry(stage).or_default() += left;
}

fn busiest(of: &impl Fn(&str) -> u64) -> Option<&'static str> {
    OF_UNPACK.into_iter().max_by_key(|stage| of(stage)).filter(|stage| of(stage) > 0)
}

/// Divides the time of a step among what it was at.
fn share_out(facts: &Facts, step: &Step, time: Duration, path: &mut BTreeMap<&'static str, u64>) {
    let time = micros(time);
    let spent = step.subject.and_then(|subject| facts.spent.get(&(subject, step.what)));
    let of = |what: &str| spent.and_then(|spent| spent.get(what)).copied().unwrap_or_default();
    match step.what {
        What::Fetch => {
            let mut left = time;
            for what in OF_FETCH {
                let part = of(what).min(left);
                left -= part;
                match what {
                    "unpack" => worked_on(facts, step, part, path),
                    _ => *path.entry(what).or_default() += part,
                }
            }
            *path.entry("queue").or_default() += left;
        }
        What::Unpack => {
            let worked = of(busiest(&of).unwrap_or_default()).min(time);
            worked_on(facts, step, worked, path);
            // Of a short tail after a long read, nothing more is known.
            *path.entry(if of("read") > 0 { "unpack" } else { "queue" }).or_default() += time - worked;
        }
        What::FetchTurn | What::UnpackTurn => *path.entry("turn").or_default() += time,
        what => *path.entry(what.word()).or_default() += time,
    }
}

/// All waits of all blobs.
fn waits(facts: &Facts) -> Vec<Share> {
    let mut all: BTreeMap<&'static str, u64> = BTreeMap::new();
    for step in facts.steps.iter().filter(|step| matches!(step.what, What::FetchTurn | What::UnpackTurn)) {
        *all.entry("turn").or_default() += micros(step.end.saturating_sub(step.begin));
    }
    for spent in facts.spent.values() {
        for what in WAITS {
            *all.entry(what).or_default() += spent.get(what).copied().unwrap_or_default();
            // Of the stages of an unpacking, which overlap, the one that lacked it most.
            let lacked = OF_UNPACK.iter().filter_map(|stage| spent.get(&format!("{stage}: {what}"))).max();
            *all.entry(what).or_default() += lacked.copied().unwrap_or_default();
        }
    }
    sorted(all)
}

fn sorted(shares: BTreeMap<&'static str, u64>) -> Vec<Share> {
    let mut shares: Vec<Share> =
        shares.into_iter().filter(|(_, us)| *us > 0).map(|(what, us)| Share { what: what.to_owned(), us }).collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.us));
    shares
}

fn shown(steps: &[Step]) -> Vec<Shown> {
    let mut steps: Vec<Shown> = steps
        .iter()
        .map(|step| Shown {
            subject: step.subject.as_ref().map(Digest::to_string).unwrap_or_default(),
            what: step.what.word().to_owned(),
            begin_us: micros(step.begin),
            end_us: micros(step.end),
        })
        .collect();
    steps.sort_by_key(|step| step.begin_us);
    steps
}

/// For how long bytes came in a fetch, whoever was slow.
fn came_in(facts: &Facts, step: &Step) -> u64 {
    let Some(spent) = step.subject.and_then(|subject| facts.spent.get(&(subject, What::Fetch))) else { return 0 };
    let parts = ["transfer", "processor", "disk"].iter().filter_map(|part| spent.get(*part));
    if step.what == What::Fetch { parts.sum() } else { 0 }
}

/// The verdict in words. `downloading`: for how long bytes came.
fn sentence(verdict: &Verdict, downloading: u64) -> String {
    let took = seconds(verdict.total_us);
    let Some(first) = verdict.path.first() else { return format!("it took {took}") };
    if verdict.from_registry == 0 && verdict.from_other_pulls == 0 && verdict.present > 0 {
        return format!("all of it was there already; it took {took}");
    }
    let of = |what: &[&str]| -> u64 {
        verdict.path.iter().filter(|share| what.contains(&share.what.as_str())).map(|share| share.us).sum()
    };
    let percent = |us: u64| (us * 100).checked_div(verdict.total_us).unwrap_or_default();
    let host = &verdict.host;
    let why = match first.what.as_str() {
        "transfer" => {
            let rate = verdict.from_registry.saturating_mul(1_000_000).checked_div(downloading).unwrap_or_default();
            format!("waiting for bytes of {host}, which came with {} a second", bytes(rate))
        }
        "answer" => format!("waiting for {host} to answer"),
        "resolve" => format!("asking {host} what the reference names"),
        "rate limit" => format!("waiting because {host} limits how often it may be asked"),
        "retry" => format!("waiting to ask {host} again after failures"),
        "another flight" => "waiting for blobs that another pull was fetching".to_owned(),
        "turn" | "queue" | "other large downloads" => "waiting for its turn: all workers were busy".to_owned(),
        "another unpacking" => "waiting for layers that another pull was unpacking".to_owned(),
        "inflate" => "inflating layers".to_owned(),
        "untar" => "making files".to_owned(),
        "hash" => "hashing layers".to_owned(),
        "unpack" => "unpacking layers".to_owned(),
        "processor" => "waiting for a processor: all of this machine's were busy".to_owned(),
        "disk" => "waiting for the disk to take what came".to_owned(),
        "commit" => "waiting for the disk to have blobs and snapshots for good".to_owned(),
        "record" => "writing records".to_owned(),
        other => format!("on {other}"),
    };
    let unpacking = percent(of(&["inflate", "hash", "untar", "unpack"]));
    let beside = match first.what.as_str() {
        "inflate" | "hash" | "untar" | "unpack" => String::new(),
        _ if unpacking < 10 => "; unpacking kept up".to_owned(),
        _ => format!("; unpacking took another {unpacking} %"),
    };
    let retries: u64 = verdict.retries.values().sum();
    let again = match verdict.retries.iter().max_by_key(|(_, times)| **times) {
        Some((cause, _)) => {
            let host = verdict.retried_hosts.iter().max_by_key(|(_, times)| **times);
            let to = host.map(|(host, _)| format!(" to {host}")).unwrap_or_default();
            match retries {
                1 => format!("; a request{to} was sent again because of {cause}"),
                _ => format!("; {retries} requests{to} were sent again, mostly because of {cause}"),
            }
        }
        None => String::new(),
    };
    let processor = match percent(of(&["processor"])) {
        percent @ 10.. if first.what != "processor" => format!("; another {percent} % waiting for a processor"),
        _ => String::new(),
    };
    format!("{} % of {took} {why}{beside}{processor}{again}", percent(first.us))
}

fn seconds(us: u64) -> String {
    let tenths = us / 100_000;
    if tenths < 10 { format!("{} ms", us / 1000) } else { format!("{}.{} s", tenths / 10, tenths % 10) }
}

fn bytes(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{} kB", count / 1000),
        1_000_000..10_000_000 => format!("{}.{} MB", count / 1_000_000, count / 100_000 % 10),
        _ => format!("{} MB", count / 1_000_000),
    }
}

#[cfg(test)]
mod tests;
