//! Verdicts of pulls whose cause is known.

use super::*;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A pull of one layer: resolved by 10, fetched from 20 on, unpacked until `end`, committed for 10, recorded for 10.
fn pull(fetched: u64, end: u64, fetch: &[(&str, u64)], unpack: &[(&str, u64)]) -> Facts {
    let layer = Digest::of(b"layer");
    let step = |subject, what, begin, until| Step { subject, what, begin: ms(begin), end: ms(until) };
    let spent = |pairs: &[(&str, u64)]| pairs.iter().map(|(what, ms)| ((*what).to_owned(), ms * 1000)).collect();
    Facts {
        total: ms(end + 20),
        steps: vec![
            step(None, What::Resolve, 0, 10),
            step(Some(layer), What::FetchTurn, 10, 20),
            step(Some(layer), What::Fetch, 20, fetched),
            step(Some(layer), What::Unpack, 30, end),
            step(None, What::Commit, end, end + 10),
            step(None, What::Record, end + 10, end + 20),
        ],
        spent: [((layer, What::Fetch), spent(fetch)), ((layer, What::Unpack), spent(unpack))].into(),
        from_registry: 50_000_000,
        ..Facts::default()
    }
}

fn first(verdict: &Verdict) -> &str {
    &verdict.path[0].what
}

#[test]
fn a_slow_link_is_blamed_on_the_registry() {
    let facts =
        pull(5000, 5010, &[("answer", 20), ("transfer", 4900), ("commit", 10)], &[("read", 4800), ("untar", 100)]);
    let verdict = judge(&facts, "registry.example");
    assert_eq!(first(&verdict), "transfer");
    let words =
        "97 % of 5.0 s waiting for bytes of registry.example, which came with 10 MB a second; unpacking kept up";
    assert_eq!(verdict.sentence, words);
}

#[test]
fn a_slow_disk_or_processor_is_blamed_on_unpacking() {
    let facts = pull(500, 5000, &[("transfer", 470)], &[("read", 400), ("inflate", 900), ("untar", 4500)]);
    let verdict = judge(&facts, "registry.example");
    assert_eq!(first(&verdict), "untar");
    assert!(verdict.sentence.ends_with("making files"), "{}", verdict.sentence);
}

#[test]
fn waits_are_told_apart() {
    for (what, words) in [
        ("rate limit", "limits how often"),
        ("retry", "after failures"),
        ("another flight", "another pull was fetching"),
        ("other large downloads", "all workers were busy"),
        ("answer", "to answer"),
    ] {
        let facts = pull(5000, 5010, &[(what, 4900), ("transfer", 50)], &[("read", 4900), ("untar", 1)]);
        let verdict = judge(&facts, "registry.example");
        assert_eq!(first(&verdict), what);
        assert!(verdict.sentence.contains(words), "{}", verdict.sentence);
    }
    // What no worker accounts for, the job lay in the queue.
    let verdict = judge(&pull(5000, 5010, &[("transfer", 50)], &[("read", 1)]), "registry.example");
    assert_eq!(first(&verdict), "queue");
}

#[test]
fn shares_add_up() {
    for facts in [pull(500, 5000, &[], &[]), pull(5000, 5001, &[("transfer", 9999)], &[]), Facts::default()] {
        let verdict = judge(&facts, "h");
        assert_eq!(verdict.path.iter().map(|share| share.us).sum::<u64>(), verdict.total_us);
        assert_eq!(verdict.total_us, micros(facts.total));
    }
}

#[test]
fn what_is_there_needs_no_blame() {
    let facts = Facts { from_registry: 0, present: 7, ..pull(30, 31, &[], &[]) };
    assert_eq!(judge(&facts, "h").sentence, "all of it was there already; it took 51 ms");
}

#[test]
fn who_waits_for_a_place_that_a_layer_of_its_own_had_waited_for_that_layer() {
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    let step = |subject, what, begin, end| Step { subject: Some(subject), what, begin: ms(begin), end: ms(end) };
    let spent = |ms: u64| [("untar".to_owned(), ms * 1000), ("untar: processor".to_owned(), ms * 250)].into();
    let facts = Facts {
        total: ms(2000),
        steps: vec![
            step(one, What::Fetch, 0, 10),
            step(two, What::Fetch, 0, 10),
            step(one, What::Unpack, 10, 1000),
            step(two, What::UnpackTurn, 10, 1010),
            step(two, What::Unpack, 1010, 2000),
        ],
        spent: [((one, What::Unpack), spent(990)), ((two, What::Unpack), spent(990))].into(),
        from_registry: 1,
        ..Facts::default()
    };
    let verdict = judge(&facts, "h");
    let of = |what: &str| verdict.path.iter().find(|share| share.what == what).map_or(0, |share| share.us);
    assert_eq!((of("turn"), of("untar"), of("processor")), (10_000, 1_485_000, 495_000));
    assert_eq!(verdict.sentence, "74 % of 2.0 s making files; another 24 % waiting for a processor");
    let with_another =
        Facts { steps: facts.steps.iter().filter(|step| step.subject == Some(two)).copied().collect(), ..facts };
    assert_eq!(judge(&with_another, "h").path[0].what, "turn", "nobody of its own had the place");
}

#[test]
fn what_a_download_lacked_is_not_blamed_on_the_registry() {
    for (what, words) in [("processor", "waiting for a processor"), ("disk", "waiting for the disk")] {
        let facts = pull(5000, 5010, &[("transfer", 500), (what, 4400)], &[("read", 4900), ("untar", 1)]);
        let verdict = judge(&facts, "registry.example");
        assert_eq!(first(&verdict), what);
        assert!(verdict.sentence.contains(words), "{}", verdict.sentence);
        assert_eq!(verdict.waits[0].what, what);
    }
}

#[test]
fn a_download_that_waited_for_its_unpacking_waited_for_what_that_was_at() {
    let (fetch, unpack) = ([("transfer", 500), ("unpack", 4400)], [("read", 400), ("hash", 300), ("untar", 4500)]);
    let verdict = judge(&pull(5000, 5010, &fetch, &unpack), "registry.example");
    assert_eq!(first(&verdict), "untar");
    assert!(verdict.sentence.contains("making files"), "{}", verdict.sentence);
    let unknown = judge(&pull(5000, 5010, &fetch, &[]), "registry.example");
    assert_eq!(first(&unknown), "unpack");
}
