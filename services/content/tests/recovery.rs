//! A commit that stops between any two of its steps leaves a store that opens, holds no wrong blob, and goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use berth_content::store::Disk;
use berth_kv::Durability;
use berth_model::{Code, Digest};

#[test]
fn stops_between_any_two_steps() {
    let bytes = b"the bytes of a blob";
    let digest = Digest::of(bytes);
    for stop_at in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path(), Durability::Synced).unwrap();
        disk.begin("layer-x", Some(&digest), bytes.len() as u64).unwrap();
        std::fs::write(disk.data_path("layer-x"), bytes).unwrap();

        let done = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&done);
        let failing = disk.clone().with_hook(Arc::new(move |_| {
            if counted.fetch_add(1, Ordering::SeqCst) == stop_at {
                return Err(std::io::Error::from_raw_os_error(5));
            }
            Ok(())
        }));
        let error = failing.publish("layer-x", &digest).unwrap_err();
        assert_eq!(error.code, Code::Internal, "{error}");

        let disk = Disk::open(dir.path(), Durability::Synced).unwrap();
        let kept = disk.recover().unwrap();
        let blobs = disk.blobs().unwrap();
        match blobs.as_slice() {
            [] => assert_eq!(
                (kept.len(), kept[0].offset),
                (1, bytes.len() as u64),
                "stopped at {stop_at}: the bytes are lost"
            ),
            [(found, size, _)] => {
                assert_eq!((found, *size), (&digest, bytes.len() as u64));
                assert_eq!(std::fs::read(disk.blob_path(&digest)).unwrap(), bytes);
                assert!(kept.is_empty(), "stopped at {stop_at}: an ingest without data stays");
            }
            more => panic!("{more:?}"),
        }
        assert_eq!(disk.store_id(), failing.store_id());
        if blobs.is_empty() {
            assert!(disk.publish("layer-x", &digest).unwrap());
        } else {
            disk.begin("layer-x", Some(&digest), 0).unwrap();
            assert!(!disk.publish("layer-x", &digest).unwrap(), "it was there already");
        }
        assert!(disk.recover().unwrap().is_empty());
    }
}
