//! Layers whose snapshots were prepared for them: the first attempt fills what was prepared, any other looks for itself.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{
    archive::{Item, archive},
    kit::{Home, Layer},
};

fn layer(home: &Home) -> Layer {
    let bytes = archive(&[Item::file("file", "of the layer")]);
    home.put(&bytes, &bytes)
}

async fn holds_the_layer(home: &Home, layer: &Layer, id: u64) {
    assert_eq!(fs::read(home.dir(id).join("fs/file")).unwrap(), b"of the layer");
    let (records, dirs) = home.left().await;
    assert_eq!((records, dirs), (vec![format!("extract-{}", layer.diff_id)], vec![id.to_string()]));
}

#[tokio::test]
async fn what_was_prepared_is_filled_and_found_by_the_same_job() {
    let home = Home::new().await;
    let layer = layer(&home);
    let prepared = home.prepare(&layer);
    assert!(!home.dir(prepared).exists());
    for _ in 0..2 {
        assert_eq!(home.unpack_into(&layer, prepared).await.unwrap(), prepared);
        holds_the_layer(&home, &layer, prepared).await;
    }
}

#[tokio::test]
async fn a_directory_says_that_somebody_died_at_it() {
    let home = Home::new().await;
    let layer = layer(&home);
    let prepared = home.prepare(&layer);
    fs::create_dir_all(home.dir(prepared).join("fs/half")).unwrap();
    let made = home.unpack_into(&layer, prepared).await.unwrap();
    assert_ne!(made, prepared);
    holds_the_layer(&home, &layer, made).await;
}

#[tokio::test]
async fn what_lost_its_record_is_not_filled() {
    let home = Home::new().await;
    let layer = layer(&home);
    let prepared = home.prepare(&layer);
    home.prepare_again(&layer);
    let made = home.unpack_into(&layer, prepared).await.unwrap();
    assert_ne!(made, prepared);
    holds_the_layer(&home, &layer, made).await;
}

/// Records that were lost, or put back from an older copy, begin with ids that have directories.
#[tokio::test]
async fn directories_without_records_are_not_in_the_way() {
    let home = Home::new().await;
    let layer = layer(&home);
    for id in 1..10 {
        fs::create_dir_all(home.dir(id).join("fs/of another time")).unwrap();
    }
    let prepared = home.prepare(&layer);
    let made = home.unpack_into(&layer, prepared).await.unwrap();
    assert_eq!(fs::read_dir(home.dir(made).join("fs")).unwrap().count(), 1);
    assert_eq!(fs::read(home.dir(made).join("fs/file")).unwrap(), b"of the layer");
}

#[tokio::test]
async fn another_attempt_does_not_take_what_the_first_one_dropped() {
    let home = Home::new().await;
    let layer = layer(&home);
    let prepared = home.prepare(&layer);
    home.trouble(1);
    let made = home.unpack_into(&layer, prepared).await.unwrap();
    assert_ne!(made, prepared, "its record went with the first attempt");
    holds_the_layer(&home, &layer, made).await;
}

#[tokio::test]
async fn what_a_cancelled_job_did_not_begin_to_fill_is_dropped() {
    let home = Home::new().await;
    let layer = layer(&home);
    let prepared = home.prepare(&layer);
    let other = home.busy(&layer);
    let begun = Instant::now();
    // One that is cancelled before it begins to wait is nobody's.
    while !home.left().await.0.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", home.left().await);
        let waits = home.hand_in(&layer, prepared).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(waits);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(other);
}
