//! From an empty snapshot to a chain of them, and what each shows.

use berth_testing::tree::differences;
use berth_wire::metadata::snapshot::Kind;

use crate::home::{Home, labels};

suite! {
    what_is_written_is_there_after_the_commit,
    mounts_are_answered_again,
    a_view_is_read_only,
    kinds_parents_and_times_are_told,
    everything_is_listed,
    usage_grows_and_is_kept,
    one_of_many_wins,
    an_empty_snapshot_can_be_viewed_and_committed,
}

async fn what_is_written_is_there_after_the_commit(home: &Home) {
    home.layer("base", "", "mkdir -p a/b; echo one > a/b/file; ln -s b a/link; echo > gone; mkdir empty").await;
    home.layer("top", "base", "echo two > a/b/file; echo new > a/new; rm gone; rmdir empty; mkdir gone").await;
    let check = "test $(cat a/b/file) = two; test $(cat a/new) = new; test -d gone; test ! -e empty; test -L a/link";
    let mounts = home.view("v", "top").await.unwrap();
    home.shell(&mounts, check);
    let mounts = home.prepare("p", "top").await.unwrap();
    home.shell(&mounts, check);
    // Below, nothing changed.
    let mounts = home.view("v0", "base").await.unwrap();
    home.shell(&mounts, "test $(cat a/b/file) = one; test ! -e a/new; test -f gone; test -d empty");
}

async fn mounts_are_answered_again(home: &Home) {
    home.layer("one", "", "echo 1 > f").await;
    home.layer("two", "one", "echo 2 > f").await;
    for (key, parent) in [("a", ""), ("b", "one"), ("c", "two")] {
        assert_eq!(home.prepare(key, parent).await.unwrap(), home.mounts(key).await.unwrap(), "{parent:?}");
        let view = format!("view {key}");
        assert_eq!(home.view(&view, parent).await.unwrap(), home.mounts(&view).await.unwrap(), "{parent:?}");
    }
}

async fn a_view_is_read_only(home: &Home) {
    home.layer("one", "", "echo 1 > f").await;
    home.layer("two", "one", "echo 2 > g").await;
    for (key, parent) in [("a", ""), ("b", "one"), ("c", "two")] {
        let mounts = home.view(key, parent).await.unwrap();
        assert!(!home.try_shell(&mounts, "echo no > no 2>/dev/null"), "{parent:?}");
        assert!(berth_mount::is_read_only(mounts.last().unwrap()));
    }
}

async fn kinds_parents_and_times_are_told(home: &Home) {
    let before = berth_wire::types::Time::now();
    home.layer("base", "", "true").await;
    home.make("act", "base", false, labels(&[("k", "v")])).await.unwrap();
    home.make("see", "base", true, labels(&[("k", "w")])).await.unwrap();
    for (key, kind, parent, label) in [
        ("base", Kind::Committed, "", None),
        ("act", Kind::Active, "base", Some("v")),
        ("see", Kind::View, "base", Some("w")),
    ] {
        let found = home.stat(key).await.unwrap();
        assert_eq!((found.name.as_str(), found.kind(), found.parent.as_str()), (key, kind, parent));
        assert_eq!(found.labels.get("k").map(String::as_str), label);
        assert_eq!(found.created_at, found.updated_at);
        assert!(found.created_at.unwrap().millis() >= before.millis());
    }
}

async fn everything_is_listed(home: &Home) {
    home.layer("base", "", "true").await;
    let mut expected = vec!["base".to_owned()];
    for n in 0..7 {
        home.prepare(&format!("key {n}"), "base").await.unwrap();
        expected.push(format!("key {n}"));
    }
    assert_eq!(home.names().await, expected);
}

async fn usage_grows_and_is_kept(home: &Home) {
    let mounts = home.prepare("k", "").await.unwrap();
    let (empty, one) = home.usage("k").await.unwrap();
    assert!(empty <= 8192 && one <= 2, "{empty} {one}");
    home.shell(&mounts, "dd if=/dev/urandom of=f bs=1000 count=500 2>/dev/null; ln f g; mkdir d");
    let (size, inodes) = home.usage("k").await.unwrap();
    assert!((500_000..600_000).contains(&size), "{size}");
    assert_eq!(inodes, one + 2, "a file with two names is one");
    home.commit("c", "k").await.unwrap();
    assert_eq!(home.usage("c").await.unwrap(), (size, inodes));
    home.view("v", "c").await.unwrap();
    assert_eq!(home.usage("v").await.unwrap(), (0, 0));
    home.prepare("next", "c").await.unwrap();
    let (above, _) = home.usage("next").await.unwrap();
    match home.snapshotter {
        "native" => assert!(above >= size, "a copy takes what the original takes: {above}"),
        _ => assert!(above <= 8192, "what is below does not count: {above}"),
    }
}

async fn one_of_many_wins(home: &Home) {
    let made = futures::future::join_all((0..8).map(|_| home.prepare("same", ""))).await;
    assert_eq!(made.iter().filter(|result| result.is_ok()).count(), 1);
    for n in 0..4 {
        home.prepare(&format!("k{n}"), "").await.unwrap();
    }
    let keys: Vec<String> = (0..4).map(|n| format!("k{n}")).collect();
    let done = futures::future::join_all(keys.iter().map(|key| home.commit("same name", key))).await;
    assert_eq!(done.iter().filter(|result| result.is_ok()).count(), 1, "{done:?}");
    // Those that lost are still active.
    let mut active = 0;
    for key in &keys {
        active += usize::from(home.stat(key).await.is_ok_and(|found| found.kind() == Kind::Active));
    }
    assert_eq!(active, 3);
}

async fn an_empty_snapshot_can_be_viewed_and_committed(home: &Home) {
    home.view("nothing", "").await.unwrap();
    home.layer("empty", "", "true").await;
    home.layer("still empty", "empty", "true").await;
    let (one, two) = (home.tree_of("empty").await, home.tree_of("still empty").await);
    assert_eq!(one.len(), 1);
    assert_eq!(differences(&one, &two), Vec::<String>::new());
}
