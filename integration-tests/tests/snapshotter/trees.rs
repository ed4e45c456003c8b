//! What snapshots on top of one another show, in the corners.

use berth_model::Code;
use berth_testing::tree::differences;

use crate::home::{Home, refused};

suite! {
    every_fact_of_a_file_survives,
    replaced_things_are_replaced_whole,
    the_root_directory_is_like_the_one_below,
    a_hundred_layers_are_shown,
    a_parent_can_come_with_the_commit,
    a_refused_rebase_changes_nothing,
}

const FACTS: &str = "
    mkdir -p d/deep; echo text > d/file; ln d/file d/deep/same; ln -s ../file d/deep/link; mkfifo d/pipe
    mknod d/null c 1 3; mknod d/disk b 7 0; chmod 4755 d/file; chmod 1777 d/deep; chown 1:2 d/pipe; chown -h 3:4 d/deep/link
    truncate -s 1M d/sparse; python3 -c 'import os; os.setxattr(\"d/file\", \"user.mine\", b\"value\")'
    touch -d 2001-02-03T04:05:06 d/file d/pipe; touch -h -d 2002-03-04T05:06:07 d/deep/link; touch -d 2003-04-05 d/deep d";

async fn every_fact_of_a_file_survives(home: &Home) {
    let mounts = home.prepare("k", "").await.unwrap();
    home.shell(&mounts, FACTS);
    let written = home.tree(&mounts);
    assert_eq!(written.len(), 10);
    home.commit("one", "k").await.unwrap();
    assert_eq!(differences(&written, &home.tree_of("one").await), Vec::<String>::new());
    let mounts = home.prepare("on it", "one").await.unwrap();
    assert_eq!(differences(&written, &home.tree(&mounts)), Vec::<String>::new());
    home.layer("two", "one", "true").await;
    assert_eq!(differences(&written, &home.tree_of("two").await), Vec::<String>::new());
}

async fn replaced_things_are_replaced_whole(home: &Home) {
    home.layer(
        "one",
        "",
        "mkdir -p a/x b c/old; echo 1 > a/x/f; echo 2 > b/f; echo 3 > c/old/f; echo 4 > f; ln -s a l",
    )
    .await;
    home.layer(
        "two",
        "one",
        "rm -r a; echo file > a; rm f; mkdir f; echo in > f/in; rm -r c; mkdir -p c/new; rm l; mkdir l; mv b/f b/g",
    )
    .await;
    home.layer("three", "two", "rm a; mkdir a; rm -r f").await;
    let found: Vec<String> = home.tree_of("three").await.keys().map(|path| path.display().to_string()).collect();
    assert_eq!(found, ["", "a", "b", "b/g", "c", "c/new", "l"]);
    let found: Vec<String> = home.tree_of("two").await.keys().map(|path| path.display().to_string()).collect();
    assert_eq!(found, ["", "a", "b", "b/g", "c", "c/new", "f", "f/in", "l"]);
}

async fn the_root_directory_is_like_the_one_below(home: &Home) {
    home.layer("one", "", "chmod 1770 .; chown 7:8 .").await;
    home.layer("two", "one", "echo > f").await;
    for name in ["one", "two"] {
        let tree = home.tree_of(name).await;
        let root = &tree[std::path::Path::new("")];
        assert_eq!((root.mode, root.uid, root.gid), (0o1770, 7, 8), "{name}");
    }
}

async fn a_hundred_layers_are_shown(home: &Home) {
    let mut parent = String::new();
    for n in 0..100 {
        let key = format!("key {n}");
        let mounts = home.prepare(&key, &parent).await.unwrap();
        // Not mounted each time: that would only be slow.
        let upper = mounts[0].options.iter().find_map(|option| option.strip_prefix("upperdir="));
        let dir = upper.unwrap_or(&mounts[0].source);
        std::fs::write(std::path::Path::new(dir).join(format!("f{n}")), "x").unwrap();
        parent = format!("layer {n}");
        home.commit(&parent, &key).await.unwrap();
    }
    assert_eq!(home.tree_of("layer 99").await.len(), 101);
    let mounts = home.prepare("top", &parent).await.unwrap();
    home.shell(&mounts, "test $(ls | wc -l) = 100; rm f0; echo > new");
    home.commit("topmost", "top").await.unwrap();
    assert_eq!(home.tree_of("topmost").await.len(), 101);
}

async fn a_parent_can_come_with_the_commit(home: &Home) {
    home.layer("base", "", "mkdir d; echo low > d/low; echo old > d/both; chmod 700 d; chown 5:6 d").await;
    let mounts = home.prepare("k", "").await.unwrap();
    home.shell(&mounts, "mkdir d; echo new > d/both; echo own > d/own; chmod 750 d");
    home.rebase("onto", "k", "base").await.unwrap();
    let found = home.stat("onto").await.unwrap();
    assert_eq!(found.parent, "base");
    let mounts = home.view("v", "onto").await.unwrap();
    home.shell(
        &mounts,
        "test $(cat d/low) = low; test $(cat d/both) = new; test $(cat d/own) = own; test $(stat -c %a d) = 750",
    );
    refused(home.remove("base").await, Code::FailedPrecondition, "child");
    // The parent it has is fine too.
    home.prepare("k2", "base").await.unwrap();
    home.rebase("again", "k2", "base").await.unwrap();
}

async fn a_refused_rebase_changes_nothing(home: &Home) {
    home.layer("base", "", "echo > low").await;
    home.layer("other", "", "true").await;
    home.prepare("active", "").await.unwrap();
    let mounts = home.prepare("k", "").await.unwrap();
    home.shell(&mounts, "echo > own");
    refused(home.rebase("n", "k", "gone").await, Code::NotFound, "gone");
    refused(home.rebase("n", "k", "active").await, Code::InvalidArgument, "active");
    refused(home.rebase("other", "k", "base").await, Code::AlreadyExists, "other");
    let found: Vec<_> = home.tree(&home.mounts("k").await.unwrap()).into_keys().collect();
    assert_eq!(found.len(), 2, "{found:?}");
    home.prepare("has one", "base").await.unwrap();
    refused(home.rebase("n", "has one", "other").await, Code::FailedPrecondition, "parent");
    home.rebase("n", "k", "base").await.unwrap();
}
