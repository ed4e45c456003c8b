//! What keeps a store in order: many deletions at once, looking for damage, and measuring.

use std::{fs, os::unix::fs::PermissionsExt as _};

use berth_model::{Code, Digest};
use berth_wire::{
    content::{self as msg, check_blobs_reply::Fault},
    types::Time,
};

use super::kit::{Home, Kind};

fn in_seconds(seconds: i64) -> Option<Time> {
    let now = Time::now();
    Some(Time { seconds: now.seconds + seconds, ..now })
}

async fn check(kit: &Home, deep: bool, repair: bool) -> Vec<(String, Fault, bool)> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let reply = kit.content.check_blobs(msg::CheckBlobsRequest { after, deep, repair }).await.unwrap();
        all.extend(reply.findings.iter().map(|finding| (finding.digest.clone(), finding.fault(), finding.repaired)));
        if reply.next.is_empty() {
            return all;
        }
        after = reply.next;
    }
}

pub(crate) async fn many_go_at_once(kind: Kind) {
    let kit = Home::new(kind).await;
    let [one, two, three] = [kit.put(b"one").await, kit.put(b"two").await, kit.put(b"three").await];
    let ask = |digests: &[Digest], not_after| msg::DeleteBlobsRequest {
        digests: digests.iter().map(ToString::to_string).collect(),
        not_after,
        owner: "records".into(),
    };
    let late = kit.content.delete_blobs(ask(&[one], in_seconds(-1))).await.unwrap_err();
    assert_eq!(late.code, Code::FailedPrecondition);
    kit.stat(&one).await.unwrap();
    let reply = kit.content.delete_blobs(ask(&[one, Digest::of(b"never"), three], in_seconds(30))).await.unwrap();
    let deleted: Vec<_> = reply.deleted.iter().map(|deleted| (deleted.digest.clone(), deleted.freed)).collect();
    assert_eq!(deleted, [(one.to_string(), 3), (three.to_string(), 5)]);
    assert_eq!(kit.stat(&one).await.unwrap_err().code, Code::NotFound);
    kit.stat(&two).await.unwrap();
    let strange = msg::DeleteBlobsRequest { owner: "other records".into(), ..ask(&[two], in_seconds(30)) };
    let refused = kit.content.delete_blobs(strange).await.unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
    kit.stat(&two).await.unwrap();
}

pub(crate) async fn damage_is_found_and_mended(kind: Kind) {
    let kit = Home::new(kind).await;
    let blobs = kit.root().join("blobs/sha256");
    let [whole, gone, short, flipped] =
        [kit.put(b"whole").await, kit.put(b"gone").await, kit.put(b"short").await, kit.put(b"flipped").await];
    let stranger = Digest::of(b"stranger");
    assert!(check(&kit, true, false).await.is_empty());

    fs::remove_file(blobs.join(gone.hex())).unwrap();
    for (digest, bytes) in [(short, &b"sho"[..]), (flipped, b"flippeD")] {
        fs::set_permissions(blobs.join(digest.hex()), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
    }
    fs::write(blobs.join(stranger.hex()), b"stranger").unwrap();
    let expected = |deep: bool, repaired| {
        let mut all = vec![
            (gone.to_string(), Fault::NoFile, repaired),
            (short.to_string(), Fault::WrongSize, repaired),
            (stranger.to_string(), Fault::NoRecord, repaired),
        ];
        if deep {
            all.push((flipped.to_string(), Fault::WrongBytes, repaired));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    assert_eq!(check(&kit, false, false).await, expected(false, false));
    assert_eq!(check(&kit, true, false).await, expected(true, false));
    assert_eq!(check(&kit, true, true).await, expected(true, true));
    assert!(check(&kit, true, false).await.is_empty(), "what was mended stays so");

    for digest in [whole, stranger] {
        kit.stat(&digest).await.unwrap();
    }
    for digest in [gone, short, flipped] {
        assert_eq!(kit.stat(&digest).await.unwrap_err().code, Code::NotFound);
    }
    assert_eq!(fs::read(kit.root().join("damaged").join(flipped.hex())).unwrap(), b"flippeD", "kept to look at");
    assert_eq!(kit.put(b"flipped").await, flipped, "and it can be fetched again");
}

pub(crate) async fn the_store_measures_what_du_does(kind: Kind) {
    let kit = Home::new(kind).await;
    kit.put(&vec![7; 100_000]).await;
    kit.put(b"small").await;
    let mut writer = kit.writer("layer-a", None, 0).await.unwrap();
    writer.write(bytes::Bytes::from(vec![1; 50_000])).await.unwrap();
    writer.flush().await.unwrap();
    writer.release().await.unwrap();
    let reply = kit.content.measure_store(msg::MeasureStoreRequest {}).await.unwrap();
    let [blobs, ingests, other] = [reply.blobs, reply.ingests, reply.other].map(Option::unwrap);
    assert_eq!((blobs.count, blobs.size, ingests.count), (2, 100_005, 1));
    assert!(ingests.size >= 50_000);
    let du = std::process::Command::new("du").args(["-s", "-B1"]).arg(kit.root()).output().unwrap();
    let du = String::from_utf8(du.stdout).unwrap();
    let total = (blobs.disk + ingests.disk + other.disk).to_string();
    assert_eq!(du.split('\t').next(), Some(total.as_str()));
}

pub(crate) async fn only_an_idle_ingest_is_taken_away_for_its_age(kind: Kind) {
    let kit = Home::new(kind).await;
    let abort = |since| msg::AbortIngestRequest { r#ref: "layer-a".into(), untouched_since: since };
    let mut writer = kit.writer("layer-a", None, 0).await.unwrap();
    writer.write(bytes::Bytes::from_static(b"half")).await.unwrap();
    writer.flush().await.unwrap();
    let refused = kit.content.abort_ingest(abort(in_seconds(60))).await.unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition, "it has a writer");
    writer.release().await.unwrap();
    let refused = kit.content.abort_ingest(abort(in_seconds(-60))).await.unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition, "it is too young");
    kit.content.abort_ingest(abort(in_seconds(60))).await.unwrap();
    assert_eq!(kit.ingests().await, []);
}
