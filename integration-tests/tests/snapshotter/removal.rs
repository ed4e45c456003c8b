//! Removal: from the top down, the record at once, the directory by and by.

use std::time::Duration;

use berth_model::Code;
use berth_testing::wait::wait_until;
use berth_wire::unpacker as msg;

use crate::home::{Home, refused};

suite! {
    children_first,
    directories_go_too,
    a_key_can_be_used_again,
    cleanup_finishes_what_was_left,
}

async fn children_first(home: &Home) {
    home.layer("base", "", "echo > f").await;
    home.layer("mid", "base", "echo > g").await;
    home.prepare("act", "mid").await.unwrap();
    home.view("see", "mid").await.unwrap();
    refused(home.remove("base").await, Code::FailedPrecondition, "cannot remove snapshot with child");
    refused(home.remove("mid").await, Code::FailedPrecondition, "remove");
    home.remove("act").await.unwrap();
    refused(home.remove("mid").await, Code::FailedPrecondition, "remove");
    home.remove("see").await.unwrap();
    home.remove("mid").await.unwrap();
    home.remove("base").await.unwrap();
    assert_eq!(home.names().await, Vec::<String>::new());
}

fn wait_for_no_directories(home: &Home) {
    wait_until("the directories to go", Duration::from_secs(20), || home.dirs().is_empty(), || home.dirs().join(" "));
}

async fn directories_go_too(home: &Home) {
    home.layer("base", "", "mkdir -p a/b/c; echo > a/b/c/d; chmod 0 a/b").await;
    let mounts = home.prepare("act", "base").await.unwrap();
    home.shell(&mounts, "mkdir more; echo > more/x");
    home.remove("act").await.unwrap();
    refused(home.stat("act").await, Code::NotFound, "act");
    refused(home.mounts("act").await, Code::NotFound, "act");
    home.remove("base").await.unwrap();
    wait_for_no_directories(home);
}

async fn a_key_can_be_used_again(home: &Home) {
    for _ in 0..3 {
        let mounts = home.prepare("key", "").await.unwrap();
        home.shell(&mounts, "test -z \"$(ls)\"; echo > f");
        home.remove("key").await.unwrap();
    }
    wait_for_no_directories(home);
}

async fn cleanup_finishes_what_was_left(home: &Home) {
    home.prepare("stays", "").await.unwrap();
    let all = home.root.path().join("snapshots").join(home.snapshotter).join("snapshots");
    // As a process that died leaves it.
    std::fs::create_dir_all(all.join("rm-7777/fs/a/b")).unwrap();
    let before = home.dirs();
    home.unpacker.clean_up(msg::CleanUpRequest { snapshotter: home.snapshotter.into() }).await.unwrap();
    let left: Vec<_> = before.into_iter().filter(|name| name != "rm-7777").collect();
    assert_eq!(home.dirs(), left);
    assert_eq!(left.len(), 1);
}
