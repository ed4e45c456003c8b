//! Fairness as properties: over random arrivals, ends and weights.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn all(_: &u32) -> bool {
    true
}

#[test]
fn one_layer_does_not_wait_for_a_hundred() {
    let mut scheduler = Scheduler::new(4);
    for layer in 0..100 {
        scheduler.enter("many", 4, layer);
    }
    for _ in 0..4 {
        assert_eq!(scheduler.next(all).unwrap().0, "many");
    }
    scheduler.enter("one", 4, 1000);
    assert_eq!(scheduler.next(all), None, "full");
    scheduler.leave("many");
    assert_eq!(scheduler.next(all).unwrap().0, "one", "the first place that is free");
}

#[test]
fn what_nobody_wants_any_more_costs_no_turn() {
    let mut scheduler = Scheduler::new(1);
    scheduler.enter("a", 1, 1);
    scheduler.enter("a", 1, 2);
    scheduler.enter("b", 1, 3);
    assert_eq!(scheduler.next(|job| *job != 1), Some(("a".to_owned(), 2)));
    scheduler.leave("a");
    assert_eq!(scheduler.next(all), Some(("b".to_owned(), 3)));
    scheduler.leave("b");
    assert_eq!((scheduler.next(all), scheduler.in_flight(), scheduler.pulls.len()), (None, 0, 0));
}

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Enter { pull: u8, jobs: u8 },
    End,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let enter = (0..6_u8, 1..20_u8).prop_map(|(pull, jobs)| Step::Enter { pull, jobs });
    proptest::collection::vec(prop_oneof![1 => enter, 3 => Just(Step::End)], 1..400)
}

proptest! {
    /// Never more than the limit in flight, nobody idle while somebody waits, every job once and in its pull's order; and
    /// of two pulls that wait all the time, neither gets more than a turn ahead of its share.
    #[test]
    fn shares_are_fair(
        limit in 1..9_usize,
        weights in proptest::collection::vec(prop_oneof![Just(1_u32), Just(4), Just(16)], 6),
        steps in steps(),
    ) {
        let mut scheduler = Scheduler::new(limit);
        let mut waiting: BTreeMap<String, VecDeque<u32>> = BTreeMap::new();
        let mut running: VecDeque<String> = VecDeque::new();
        let mut jobs = 0;
        // Turns of each pull since any of the two, of a pair, last had nothing waiting.
        let mut turns: BTreeMap<(String, String), (u32, u32)> = BTreeMap::new();
        let weight = |pull: &str| weights[pull.parse::<usize>().unwrap()];
        for step in steps {
            match step {
                Step::Enter { pull, jobs: more } => {
                    let pull = pull.to_string();
                    for _ in 0..more {
                        scheduler.enter(&pull, weight(&pull), jobs);
                        waiting.entry(pull.clone()).or_default().push_back(jobs);
                        jobs += 1;
                    }
                }
                Step::End => if let Some(pull) = running.pop_front() {
                    scheduler.leave(&pull);
                }
            }
            while let Some((pull, job)) = scheduler.next(all) {
                let backlogged: Vec<String> =
                    waiting.iter().filter(|(_, queue)| !queue.is_empty()).map(|(pull, _)| pull.clone()).collect();
                prop_assert_eq!(waiting.get_mut(&pull).and_then(VecDeque::pop_front), Some(job));
                turns.retain(|(a, b), _| backlogged.contains(a) && backlogged.contains(b));
                for a in &backlogged {
                    for b in backlogged.iter().filter(|b| a < *b) {
                        let pair = turns.entry((a.clone(), b.clone())).or_default();
                        pair.0 += u32::from(*a == pull);
                        pair.1 += u32::from(*b == pull);
                        let (of_a, of_b) = (f64::from(pair.0) / f64::from(weight(a)), f64::from(pair.1) / f64::from(weight(b)));
                        let turn = 1.0 / f64::from(weight(a)) + 1.0 / f64::from(weight(b));
                        prop_assert!((of_a - of_b).abs() <= turn + 1e-9, "{a}: {of_a}, {b}: {of_b}");
                    }
                }
                running.push_back(pull);
            }
            prop_assert!(running.len() <= limit && scheduler.in_flight() == running.len());
            prop_assert!(running.len() == limit || waiting.values().all(VecDeque::is_empty), "a place is idle");
        }
    }
}
