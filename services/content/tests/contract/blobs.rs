//! Blobs: from the first byte to the deletion.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use berth_model::{Code, Digest};
use berth_wire::content as msg;
use bytes::Bytes;

use crate::kit::{Home, Kind, pattern, read_all};

pub(crate) async fn a_blob_is_written_read_listed_and_deleted(kind: Kind) {
    let home = Home::new(kind).await;
    let bytes = pattern(3_000_000);
    let digest = home.put(&bytes).await;
    let stat = home.stat(&digest).await.unwrap();
    assert_eq!((stat.size, &stat.digest), (bytes.len() as u64, &digest.to_string()));
    let path = home.root().join("blobs/sha256").join(digest.hex());
    assert_eq!(Path::new(&stat.path), path);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o444);
    assert_eq!(read_all(home.reader(digest)).await.0.unwrap(), bytes);
    assert_eq!(home.put(b"").await, Digest::of(b""), "an empty blob is a blob");
    assert_eq!(read_all(home.reader(Digest::of(b""))).await.0.unwrap(), b"");

    for left in [None, Some(digest), Some(Digest::of(b"other"))] {
        if left != Some(digest) {
            // Nobody writes it any more, whatever it was to be.
            let mut writer = home.writer("again", left.as_ref(), 5).await.unwrap();
            writer.write(Bytes::from_static(b"oth")).await.unwrap();
            writer.flush().await.unwrap();
            writer.release().await.unwrap();
        }
        let error = home.writer("again", Some(&digest), 0).await.err().unwrap();
        assert_eq!(error.code, Code::AlreadyExists, "{left:?}");
        assert!(home.ingests().await.is_empty(), "{left:?}");
        assert_eq!(home.ingest_dirs(), 0, "{left:?}");
    }

    assert_eq!(home.delete(&digest, -1).await.unwrap_err().code, Code::FailedPrecondition);
    assert_eq!(home.delete(&digest, 30).await.unwrap(), bytes.len() as u64);
    assert_eq!(home.delete(&digest, 30).await.unwrap_err().code, Code::NotFound);
    assert_eq!(home.stat(&digest).await.unwrap_err().code, Code::NotFound);
    assert_eq!(home.put(&bytes).await, digest, "it may come back");
}

pub(crate) async fn a_list_is_walked_in_pages(kind: Kind) {
    let home = Home::new(kind).await;
    let mut put = Vec::new();
    for n in 0..7_u8 {
        put.push(home.put(&[n]).await.to_string());
    }
    put.sort();
    for limit in [1, 3, 7, 0] {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = home.content.list_blobs(msg::ListBlobsRequest { after: after.clone(), limit }).await.unwrap();
            assert!(page.blobs.len() <= if limit == 0 { 1000 } else { limit as usize });
            after = page.blobs.last().unwrap().digest.clone();
            found.extend(page.blobs.into_iter().map(|blob| blob.digest));
            if !page.more {
                break;
            }
        }
        assert_eq!(found, put, "{limit} at once");
    }
    let mut writers = Vec::new();
    for name in ["c", "a", "b"] {
        writers.push(home.writer(name, None, 9).await.unwrap());
    }
    let page = msg::ListIngestsRequest { limit: 2, ..Default::default() };
    let page = home.content.list_ingests(page).await.unwrap();
    let names = |page: &msg::ListIngestsReply| page.ingests.iter().map(|i| i.r#ref.clone()).collect::<Vec<_>>();
    assert_eq!((names(&page), page.more), (vec!["a".to_owned(), "b".to_owned()], true));
    assert!(page.ingests[0].active && page.ingests[0].started_at.is_some() && page.ingests[0].total == 9);
    let page = msg::ListIngestsRequest { after: "b".into(), ..Default::default() };
    let page = home.content.list_ingests(page).await.unwrap();
    assert_eq!((names(&page), page.more), (vec!["c".to_owned()], false));
}

pub(crate) async fn the_same_bytes_twice_are_one_blob(kind: Kind) {
    let home = Home::new(kind).await;
    let digest = Digest::of(b"twice");
    let mut first = home.writer("a", None, 0).await.unwrap();
    let mut second = home.writer("b", None, 0).await.unwrap();
    for writer in [&mut first, &mut second] {
        writer.write(Bytes::from_static(b"twice")).await.unwrap();
    }
    let (one, other) = tokio::join!(first.commit(5, &digest), second.commit(5, &digest));
    one.unwrap();
    other.unwrap();
    assert_eq!(home.content.list_blobs(msg::ListBlobsRequest::default()).await.unwrap().blobs.len(), 1);
    assert_eq!(home.ingest_dirs(), 0);
    first.commit(5, &digest).await.expect("a commit whose answer got lost may be asked for again");
}

pub(crate) async fn a_blob_whose_file_was_taken_away_is_fetched_again(kind: Kind) {
    let home = Home::new(kind).await;
    let digest = home.put(b"a blob").await;
    std::fs::remove_file(home.root().join("blobs/sha256").join(digest.hex())).unwrap();
    assert_eq!(home.stat(&digest).await.unwrap_err().code, Code::NotFound);
    assert_eq!(home.put(b"a blob").await, digest);
    assert_eq!(home.stat(&digest).await.unwrap().size, 6);
}

pub(crate) async fn of_many_those_are_told_that_are_there(kind: Kind) {
    let home = Home::new(kind).await;
    let (first, gone, second) = (home.put(b"first").await, home.put(b"gone").await, home.put(b"").await);
    std::fs::remove_file(home.root().join("blobs/sha256").join(gone.hex())).unwrap();
    let ask = |digests: &[Digest]| {
        let digests = digests.iter().map(ToString::to_string).collect();
        home.content.stat_blobs(msg::StatBlobsRequest { digests })
    };
    let told = ask(&[second, Digest::of(b"never there"), gone, first]).await.unwrap().blobs;
    assert_eq!(told, [home.stat(&second).await.unwrap(), home.stat(&first).await.unwrap()]);
    assert_eq!(ask(&[]).await.unwrap().blobs, []);
    assert_eq!(ask(&[first; 1000]).await.unwrap().blobs.len(), 1000);
    assert_eq!(ask(&[first; 1001]).await.unwrap_err().code, Code::InvalidArgument);
    let odd = msg::StatBlobsRequest { digests: vec![first.to_string(), "odd".into()] };
    assert_eq!(home.content.stat_blobs(odd).await.unwrap_err().code, Code::InvalidArgument);
}
