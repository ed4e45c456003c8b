//! What servers were like when they answered: whether they share a connection (HTTP/2), and how far they are.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::endpoint::is_loopback;

/// Servers that are remembered; then all are forgotten, which costs a connection and a guess each.
const MOST: usize = 256;
/// How long the best answer counts: routes change.
const GOOD_FOR: Duration = Duration::from_secs(600);

#[derive(Debug)]
struct Known {
    shares: Option<bool>,
    /// Held by the large answer that comes by the shared connection.
    ride: Ride,
    best: Duration,
    since: Instant,
}

/// That one large answer comes by the connection that is shared; until all of these are dropped there is no other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ride(Arc<()>);

/// How a large answer comes.
#[derive(Debug)]
pub(crate) enum Way {
    /// By any of the connections, which are not shared.
    Any,
    /// By the one that is shared, alone of its kind.
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
        if all.len() >= MOST && !all.contains_key(host) {
            all.clear();
        }
        let known =
            all.entry(host.to_owned()).or_insert(Known { shares, ride: Ride::default(), best: took, since: now });
        if took <= known.best || now.duration_since(known.since) > GOOD_FOR {
            (known.best, known.since) = (took, now);
        }
        known.shares = shares.or(known.shares);
    }

    /// How a large answer of it should come. Of a server that is far one may come by the shared connection: another would
    /// take some round trips to open. More would share one window of TCP.
    pub(crate) fn way(&self, host: &str) -> Way {
        match self.lock().get(host) {
            Some(Known { shares: Some(false), .. }) => Way::Any,
            Some(known)
                if known.shares == Some(true) && self.takes(host, known) && Arc::strong_count(&known.ride.0) == 1 =>
            {
                Way::Shared(known.ride.clone())
            }
            _ => Way::Own,
        }
    }

    /// Whether it is far, as far as that is known.
    pub(crate) fn is_far(&self, host: &str) -> bool {
        self.lock().get(host).is_some_and(|known| self.takes(host, known))
    }

    /// What takes a server of this machine long is mostly its own work, and only sometimes a tunnel to elsewhere.
    fn takes(&self, host: &str, known: &Known) -> bool {
        known.best >= if is_loopback(host) { 3 * self.far } else { self.far }
    }
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
        assert!(matches!(hosts.way("unknown:1"), Way::Own));
        for (host, shares, took) in [("old:1", false, FAR), ("near:1", true, near), ("far:1", true, FAR)] {
            hosts.answered(host, Some(shares), took, now);
        }
        assert!(matches!(hosts.way("old:1"), Way::Any));
        assert!(matches!(hosts.way("near:1"), Way::Own));
        let Way::Shared(first) = hosts.way("far:1") else { panic!("nobody rides yet") };
        let copy = first.clone();
        drop(first);
        assert!(matches!(hosts.way("far:1"), Way::Own));
        drop(copy);
        assert!(matches!(hosts.way("far:1"), Way::Shared(_)));
    }
}
