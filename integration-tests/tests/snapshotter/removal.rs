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
    many_at_once_leave_nothing,
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

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A hundred at once, each with a life of its own.
async fn many_at_once_leave_nothing(home: &Home) {
    home.layer("base", "", "mkdir d; echo > d/f").await;
    let life = async |n: usize| {
        let (key, name, view) = (format!("key {n}"), format!("name {n}"), format!("view {n}"));
        let mounts = home.prepare(&key, "base").await?;
        assert_eq!(home.mounts(&key).await?, mounts);
        home.commit(&name, &key).await?;
        home.view(&view, &name).await?;
        refused(home.remove(&name).await, Code::FailedPrecondition, "remove");
        home.remove(&view).await?;
        home.remove(&name).await
    };
    life(0).await.unwrap();
    let before = open_files();
    let done = futures::future::join_all((1..=100).map(life)).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(home.names().await, ["base"]);
    home.remove("base").await.unwrap();
    wait_for_no_directories(home);
    let few = || open_files() <= before + 8;
    wait_until("files to be closed", Duration::from_secs(20), few, || format!("{before}, now {}", open_files()));
}
