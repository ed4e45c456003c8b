//! What servers were like when they were asked: whether they share a connection (HTTP/2), and how far they are.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::endpoint::is_loopback;

/// Servers that are remembered; then all are forgotten, which costs a connection and a guess each.
const MOST: usize = 256;
/// How long something of them counts: routes change, and so does what is in between.
const GOOD_FOR: Duration = Duration::from_secs(600);
/// So many breaks of a shared connection without an answer between them are no accident.
const BREAKS: u32 = 2;

#[derive(Debug, Default)]
struct Known {
    shares: Option<bool>,
    /// Held by the large answer that comes by the shared connection.
    ride: Ride,
    /// The best answer, and when it came.
    best: Option<(Duration, Instant)>,
    /// Breaks of a shared connection since its last answer, and when the last one was.
    broke: Option<(u32, Instant)>,
}

impl Known {
    /// Something between here and it may say that it speaks HTTP/2, and not manage to.
    fn breaks(&self, now: Instant) -> bool {
        self.broke.is_some_and(|(times, last)| times >= BREAKS && now.duration_since(last) < GOOD_FOR)
    }
}

/// That one large answer comes by the connection that is shared; until all of these are dropped there is no other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ride(Arc<()>);

/// How an answer comes.
#[derive(Debug)]
pub(crate) enum Way {
    /// By the connection that is shared, if the server shares any.
    Any,
    /// By the one that is shared, alone of the large ones.
    Shared(Ride),
    /// By one of its own.
    Own,
}

#[derive(Debug)]
pub(crate) struct Hosts {
    /// By `host:port`.
    known: Mutex<HashMap<String, Known>>,
    far: Duration,
}

impl Hosts {
    /// None yet; one whose best answer takes so long is far.
    pub(crate) fn new(far: Duration) -> Self {
        Self { known: Mutex::default(), far }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down an answer: whether other requests share its connection, if that is known, and how long it took from the
    /// question to its head.
    pub(crate) fn answered(&self, host: &str, shares: Option<bool>, took: Duration, now: Instant) {
        let mut all = self.lock();
        let known = entry(&mut all, host);
        if known.best.is_none_or(|(best, at)| took <= best || now.duration_since(at) > GOOD_FOR) {
            known.best = Some((took, now));
        }
        known.shares = shares.or(known.shares);
        if shares.is_some() {
            known.broke = None;
        }
    }

    /// Takes down that a shared connection broke before it answered what was asked then; true if therefore no other is opened
    /// for a while. All who shared it tell of it, and it counts once: not what was asked before the last break.
    pub(crate) fn broke(&self, host: &str, asked: Instant, now: Instant) -> bool {
        let mut all = self.lock();
        let known = entry(&mut all, host);
        let (times, last) = known.broke.map_or((0, None), |(times, last)| (times, Some(last)));
        if last.is_some_and(|last| asked <= last) {
            return false;
        }
        known.broke = Some((times.saturating_add(1), now));
        known.breaks(now)
    }

    /// How an answer of it should come. Of a server that is far a large one may come by the shared connection: another
    /// would take some round trips to open. More would share one window of TCP.
    pub(crate) fn way(&self, host: &str, large: bool, now: Instant) -> Way {
        match self.lock().get(host) {
            Some(known) if known.breaks(now) => Way::Own,
            Some(Known { shares: Some(false), .. }) => Way::Any,
            _ if !large => Way::Any,
            Some(known)
                if known.shares == Some(true)
                    && self.seems_far(host, known)
                    && Arc::strong_count(&known.ride.0) == 1 =>
            {
                Way::Shared(known.ride.clone())
            }
            _ => Way::Own,
        }
    }

    /// Whether it is far, as far as that is known.
    pub(crate) fn is_far(&self, host: &str) -> bool {
        self.lock().get(host).is_some_and(|known| self.seems_far(host, known))
    }

    /// How long its best answer took.
    pub(crate) fn best(&self, host: &str) -> Option<Duration> {
        self.lock().get(host)?.best.map(|(best, _)| best)
    }

    /// What takes a server of this machine long is mostly its own work, and only sometimes a tunnel to elsewhere.
    fn seems_far(&self, host: &str, known: &Known) -> bool {
        let far = if is_loopback(host) { 3 * self.far } else { self.far };
        known.best.is_some_and(|(best, _)| best >= far)
    }
}

/// What is known of it, for more to be taken down.
fn entry<'a>(all: &'a mut HashMap<String, Known>, host: &str) -> &'a mut Known {
    if all.len() >= MOST && !all.contains_key(host) {
        all.clear();
    }
    all.entry(host.to_owned()).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: Duration = Duration::from_millis(10);

    #[test]
    fn the_best_answer_counts_for_a_while() {
        let (hosts, start) = (Hosts::new(FAR), Instant::now());
        let ms = Duration::from_millis;
        assert!(!hosts.is_far("a:1"));
        hosts.answered("a:1", None, ms(30), start);
        hosts.answered("127.0.0.1:1", None, ms(29), start);
        assert!(hosts.is_far("a:1") && !hosts.is_far("127.0.0.1:1"));
        hosts.answered("127.0.0.1:2", None, ms(30), start);
        assert!(hosts.is_far("127.0.0.1:2"));
        hosts.answered("a:1", None, ms(9), start + ms(1));
        hosts.answered("a:1", None, ms(40), start + ms(2));
        assert!(!hosts.is_far("a:1"));
        hosts.answered("a:1", None, ms(40), start + GOOD_FOR + ms(2));
        assert!(hosts.is_far("a:1"));
        for n in 0..2 * MOST {
            hosts.answered(&format!("b:{n}"), None, ms(1), start);
        }
        assert!(hosts.lock().len() <= MOST);
    }

    #[test]
    fn one_large_answer_of_a_far_server_comes_by_the_shared_connection() {
        let (hosts, now) = (Hosts::new(FAR), Instant::now());
        let near = Duration::from_millis(1);
        let way = |host| hosts.way(host, true, now);
        assert!(matches!(way("unknown:1"), Way::Own));
        for (host, shares, took) in [("old:1", false, FAR), ("near:1", true, near), ("far:1", true, FAR)] {
            hosts.answered(host, Some(shares), took, now);
        }
        assert!(matches!(way("old:1"), Way::Any));
        assert!(matches!(way("near:1"), Way::Own));
        let Way::Shared(first) = way("far:1") else { panic!("nobody rides yet") };
        let copy = first.clone();
        drop(first);
        assert!(matches!(way("far:1"), Way::Own));
        drop(copy);
        assert!(matches!(way("far:1"), Way::Shared(_)));
        for host in ["unknown:1", "near:1", "far:1"] {
            assert!(matches!(hosts.way(host, false, now), Way::Any));
        }
    }

    #[test]
    fn a_shared_connection_that_breaks_again_and_again_is_left_alone_for_a_while() {
        let (hosts, now) = (Hosts::new(FAR), Instant::now());
        let shared = |host, later| matches!(hosts.way(host, false, now + later), Way::Any);
        let (before, then) = (now - FAR, now + FAR);
        assert!(!hosts.broke("a:1", before, now) && shared("a:1", Duration::ZERO));
        hosts.answered("a:1", Some(true), FAR, now);
        assert!(!hosts.broke("a:1", before, now));
        // Those that the same one took with it.
        assert!(!hosts.broke("a:1", before, now) && !hosts.broke("a:1", now, then) && shared("a:1", Duration::ZERO));
        assert!(hosts.broke("a:1", then, then) && !shared("a:1", Duration::ZERO));
        // What came by another connection says nothing of it.
        hosts.answered("a:1", None, FAR, now);
        assert!(!shared("a:1", GOOD_FOR / 2) && shared("a:1", FAR + GOOD_FOR));
        // How far it is, a break does not say.
        hosts.broke("b:1", before, now);
        assert!(!hosts.is_far("b:1"));
    }
}
