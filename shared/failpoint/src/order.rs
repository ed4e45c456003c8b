//! What is ordered: at which point, at which of its passings, what.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Kind, Point};

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The process dies.
    Kill,
    /// The step fails with this error of the system.
    Fail(i32),
    /// The flush is not done, and nobody is told.
    Skip,
}

impl Action {
    /// Whether it makes sense at a point.
    fn fits(self, point: Point) -> bool {
        match self {
            Self::Kill => true,
            Self::Fail(_) => point.kind() != Kind::Place,
            Self::Skip => point.kind() == Kind::Flush,
        }
    }
}

/// One order. It is carried out once; a flush is left out each time.
#[derive(Debug)]
struct Order {
    /// `None`: at any.
    point: Option<Point>,
    action: Action,
    at: u64,
    passed: AtomicU64,
}

/// All that is ordered.
#[derive(Debug)]
pub(crate) struct Orders(Vec<Order>);

impl Orders {
    /// Reads `point=action[@n]`, separated by `;`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        text.split(';').filter(|order| !order.trim().is_empty()).map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// What happens now at this point. Counts the passing.
    pub(crate) fn take(&self, point: Point) -> Option<Action> {
        let due = |order: &&Order| {
            // A point where nothing can fail does not use up an order to fail.
            if order.point.is_some_and(|ordered| ordered != point) || !order.action.fits(point) {
                return false;
            }
            let passed = order.passed.fetch_add(1, Ordering::Relaxed) + 1;
            passed == order.at || (order.action == Action::Skip && passed > order.at)
        };
        // All are counted, also those behind the one that is due.
        let due: Vec<&Order> = self.0.iter().filter(due).collect();
        due.first().map(|order| order.action)
    }
}

fn parse(order: &str) -> Result<Order, String> {
    let (name, what) = order.trim().split_once('=').ok_or_else(|| format!("{order:?}: write POINT=ACTION[@N]"))?;
    let (action, at) = match what.split_once('@') {
        None => (what, 1),
        Some((action, at)) => {
            (action, at.parse().ok().filter(|at| *at > 0).ok_or_else(|| format!("{order:?}: {at:?} is no number"))?)
        }
    };
    let point = match name {
        "any" => None,
        name => Some(
            Point::ALL
                .iter()
                .copied()
                .find(|point| point.name() == name)
                .ok_or_else(|| format!("there is no point {name:?}"))?,
        ),
    };
    let action = match action {
        "kill" => Action::Kill,
        "enospc" => Action::Fail(libc::ENOSPC),
        "eio" => Action::Fail(libc::EIO),
        "skip" => Action::Skip,
        other => return Err(format!("there is no action {other:?}; there are kill, enospc, eio and skip")),
    };
    if point.is_some_and(|point| !action.fits(point)) {
        return Err(format!("{order:?}: that cannot happen there; the process can be killed"));
    }
    Ok(Order { point, action, at, passed: AtomicU64::new(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_strike_once_at_their_passing() {
        let orders = Orders::parse("kv.flush=eio@2; any=kill@6;kv.write=enospc;").unwrap();
        let (flush, write, flushed) = (Point::KvFlush, Point::KvWrite, Point::KvFlushed);
        for (point, struck) in [
            (flush, None),
            (write, Some(Action::Fail(libc::ENOSPC))),
            (flush, Some(Action::Fail(libc::EIO))),
            (flush, None),
            (write, None),
            (flushed, Some(Action::Kill)),
            (flushed, None),
        ] {
            assert_eq!(orders.take(point), struck, "{point:?}");
        }
    }

    #[test]
    fn any_failure_waits_for_a_step() {
        let orders = Orders::parse("any=eio@2").unwrap();
        for (point, struck) in [(Point::KvFlushed, false), (Point::KvFlush, false), (Point::KvFlushed, false)] {
            assert_eq!(orders.take(point).is_some(), struck);
        }
        assert_eq!(orders.take(Point::KvWrite), Some(Action::Fail(libc::EIO)));
    }

    #[test]
    fn a_flush_is_left_out_from_then_on() {
        let orders = Orders::parse("kv.flush=skip@2").unwrap();
        let taken: Vec<_> = (0..4).map(|_| orders.take(Point::KvFlush).is_some()).collect();
        assert_eq!(taken, [false, true, true, true]);
        assert_eq!(orders.take(Point::ContentFlush), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("kv.flush", "POINT=ACTION"),
            ("kv.flsh=kill", "kv.flsh"),
            ("kv.flush=burn", "burn"),
            ("kv.flush=kill@0", "\"0\""),
            ("kv.flushed=eio", "kv.flushed"),
            ("kv.write=skip", "kv.write"),
        ] {
            let error = Orders::parse(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Point::ALL.iter().map(|point| point.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
