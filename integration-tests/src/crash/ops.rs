//! The people who use the store: several at once, each with commands chosen by chance, until somebody pulls the plug.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use berth_testing::{berth::Berth, running::Running};

use super::{
    catalog::Catalog,
    oracle::{Done, NAMESPACES, Thing, Wish},
};
use crate::chance::Chance;

/// No command of a run takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// What all of them see.
#[derive(Default)]
pub(super) struct Bell {
    clock: AtomicU64,
    /// Give no more commands.
    stop: AtomicBool,
    /// Commands under way die too; the tick at which that was.
    cut: AtomicU64,
}

impl Bell {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(super) fn cut(&self) {
        self.cut.store(self.tick(), Ordering::SeqCst);
        self.stop();
    }

    fn has_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst) > 0
    }
}

/// Gives commands until the bell rings.
pub(super) fn work(
    berth: &Berth,
    catalog: &Catalog,
    bell: &Bell,
    mut chance: Chance,
    fetch_only: bool,
) -> Result<Vec<Done>> {
    let mut all = Vec::new();
    while !bell.has_stopped() {
        let namespace = NAMESPACES.get(usize::from(chance.below(4) == 0)).copied().unwrap_or("default");
        let wish = match choose(catalog, &mut chance) {
            Wish::Pull(number, _) if fetch_only => Wish::Pull(number, false),
            wish => wish,
        };
        let args = words(catalog, namespace, &wish);
        let begin = bell.tick();
        let Some((code, output)) = follow(Running::start(berth.command(&args))?, bell) else {
            all.push(Done { namespace, wish, begin, end: bell.tick(), acknowledged: false, refused: None });
            continue;
        };
        let end = bell.tick();
        // Who heard of it after the power went heard it in vain.
        let cut = bell.cut.load(Ordering::SeqCst);
        let acknowledged = code == 0 && (cut == 0 || end < cut);
        // Removals are refused for many good reasons; nobody asks.
        let is_pull = matches!(wish, Wish::Pull(..));
        let refused = (is_pull && code != 0 && !stops_soon(bell)).then_some(output);
        all.push(Done { namespace, wish, begin, end, acknowledged, refused });
    }
    Ok(all)
}

/// Waits for a command's end; `None` if the power went first.
fn follow(mut running: Running, bell: &Bell) -> Option<(i32, String)> {
    let begun = Instant::now();
    while !running.has_ended() {
        if bell.is_cut() {
            return None;
        }
        assert!(begun.elapsed() < LIMIT, "a command does not end: {}", running.output());
        thread::sleep(Duration::from_millis(3));
    }
    let finished = running.finish().ok()?;
    Some((finished.code, finished.stderr))
}

/// Whether this failure may be the daemon's death, which is noticed a moment later.
fn stops_soon(bell: &Bell) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        if bell.has_stopped() {
            return true;
        }
        thread::sleep(Duration::from_millis(3));
    }
    false
}

fn choose(catalog: &Catalog, chance: &mut Chance) -> Wish {
    let number = chance.below(catalog.images.len());
    let Some(image) = catalog.images.get(number) else { return Wish::Pull(0, true) };
    match chance.below(11) {
        10 => Wish::Collect,
        0..6 => Wish::Pull(number, chance.below(6) > 0),
        6 | 7 => Wish::Remove(Thing::Image(image.reference.clone())),
        8 => Wish::Remove(Thing::Content(chance.pick(&image.digests).cloned().unwrap_or_default())),
        // Mostly the top one: the others are refused while it is there.
        _ if chance.below(4) > 0 => Wish::Remove(Thing::Snapshot(image.chain.last().cloned().unwrap_or_default())),
        _ => Wish::Remove(Thing::Snapshot(chance.pick(&image.chain).cloned().unwrap_or_default())),
    }
}

/// The command line of a wish.
pub(super) fn words(catalog: &Catalog, namespace: &str, wish: &Wish) -> Vec<String> {
    let mut words = vec!["-n".to_owned(), namespace.to_owned()];
    let mut say = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
    match wish {
        Wish::Pull(number, unpack) => {
            let reference = catalog.images.get(*number).map(|image| image.reference.as_str()).unwrap_or_default();
            say(&["pull", "--plain-http", "--quiet", reference]);
            if !unpack {
                say(&["--no-unpack"]);
            }
        }
        Wish::Collect => say(&["gc"]),
        Wish::Remove(Thing::Image(name)) => say(&["images", "rm", name]),
        Wish::Remove(Thing::Content(digest)) => say(&["content", "rm", digest]),
        Wish::Remove(Thing::Snapshot(name)) => say(&["snapshots", "rm", name]),
    }
    words
}
