//! Large blobs of servers that are far: several pieces at once, and whatever can go wrong with one of them.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use berth_fetcher::{Access, ClientOptions, Fetched, RegistryClient};
use berth_model::Status;
use berth_testing::hostile::{Auth, Fault, Faults, Seen};

use crate::kit::{Memory, Scene, options, until};

/// Every server is far; a blob of 100,000 bytes has ten pieces, and five stretches.
fn far() -> ClientOptions {
    ClientOptions { far: Duration::ZERO, piece_bytes: 10_000, stretch_bytes: 20_000, ..options() }
}

/// Downloads the scene's blob, with what is there already. How far a server is, is known from resolving the reference.
async fn come(scene: &Scene, options: ClientOptions, there: usize) -> (Result<Fetched, Status>, Vec<u8>) {
    let client = Arc::new(RegistryClient::new(options).unwrap());
    client.resolve(&scene.reference(), &Scene::plain()).await.unwrap();
    let mut sink = Memory { bytes: scene.blob[..there].to_vec() };
    let done = client.fetch_into(&mut sink, &scene.layer, &scene.reference(), &Scene::plain(), &|_| {}).await;
    (done, sink.bytes)
}

async fn comes(scene: &Scene, options: ClientOptions, there: usize) -> Fetched {
    let (done, bytes) = come(scene, options, there).await;
    let fetched = done.unwrap();
    assert!(bytes == scene.blob, "the bytes differ");
    fetched
}

/// The ranges that were asked for, whatever their order.
fn ranges(scene: &Scene) -> BTreeSet<String> {
    let ranges = scene.ranges();
    let all = ranges.iter().map(|range| range.clone().unwrap_or_default()).collect::<BTreeSet<_>>();
    assert_eq!(all.len(), ranges.len(), "something was asked for twice: {ranges:?}");
    all
}

fn parts(from: usize, length: usize) -> BTreeSet<String> {
    let last = |at: usize| (at + length).min(100_000) - 1;
    (from..100_000).step_by(length).map(|at| format!("bytes={at}-{}", last(at))).collect()
}

#[tokio::test]
async fn each_piece_is_asked_for_once() {
    let scene = Scene::new(Faults::none()).await;
    let fetched = comes(&scene, far(), 0).await;
    assert_eq!((fetched.bytes, fetched.opened), (100_000, 1));
    assert_eq!(ranges(&scene), parts(0, 10_000));
}

#[tokio::test]
async fn a_resume_is_in_pieces_too() {
    let scene = Scene::new(Faults::none()).await;
    assert_eq!(comes(&scene, far(), 33_333).await.bytes, 66_667);
    assert_eq!(ranges(&scene), parts(33_333, 10_000));
}

#[tokio::test]
async fn a_server_that_is_near_is_asked_for_all_of_it() {
    let scene = Scene::new(Faults::none()).await;
    comes(&scene, ClientOptions { far: Duration::from_secs(60), ..far() }, 0).await;
    assert_eq!(scene.ranges(), [None]);
}

#[tokio::test]
async fn what_is_small_or_may_have_one_connection_comes_whole() {
    for options in [ClientOptions { piece_bytes: 100_000, ..far() }, ClientOptions { pieces: 1, ..far() }] {
        let scene = Scene::new(Faults::none()).await;
        comes(&scene, options, 0).await;
        assert_eq!(scene.ranges(), [None]);
    }
}

/// Pieces are large downloads, as many as there may be; where there is no place for another, it is one after the other.
#[tokio::test]
async fn there_are_no_more_connections_than_places() {
    for (places, at_once) in [(0, 1), (1, 2), (2, 2), (4, 3), (20, 4)] {
        let scene = Scene::new(Faults::none().always("/blobs/", Fault::HeldAfter(5_000))).await;
        let options = ClientOptions { large_downloads: places, ..far() };
        let together = async {
            until("half of each to come", || scene.registry.sent() >= at_once as u64 * 5_000).await;
            assert_eq!(scene.ranges().len(), at_once, "{places} places");
            scene.registry.behave();
        };
        let (fetched, ()) = tokio::join!(comes(&scene, patient(options), 0), together);
        assert_eq!(fetched.opened, if places == 0 { 5 } else { 1 }, "{places} places");
    }
}

/// The next ones are asked for while the last bytes of those before still come, if that takes long; and then no more, as they
/// wait in memory.
#[tokio::test]
async fn nothing_rests_between_pieces() {
    for (warm_up, rows) in [(0, 2), (1_000_000, 1)] {
        let scene = Scene::new(Faults::none().always("/blobs/", Fault::HeldAfter(7_500))).await;
        let together = async {
            until("some rows of them to come", || scene.registry.sent() >= rows * 4 * 7_500).await;
            assert_eq!(scene.ranges().len() as u64, rows * 4, "{:?}", scene.ranges());
            scene.registry.behave();
        };
        tokio::join!(comes(&scene, ClientOptions { warm_up, ..patient(far()) }, 0), together);
        assert_eq!(ranges(&scene), parts(0, 10_000));
    }
}

/// Nothing of what a test holds back is taken for broken.
fn patient(options: ClientOptions) -> ClientOptions {
    ClientOptions { stall_timeout: Duration::from_secs(30), response_timeout: Duration::from_secs(30), ..options }
}

#[tokio::test]
async fn whatever_becomes_of_a_piece_the_blob_comes_whole() {
    let faults = [
        Fault::ResetAfter(3_000),
        Fault::CloseAfter(3_000),
        Fault::EndAfter(3_000),
        Fault::EndAfter(0),
        Fault::StallAfter(3_000),
        Fault::Longer(1),
        Fault::IgnoreRange,
        Fault::NoRange,
        Fault::LyingRange(7),
        Fault::LyingRange(-7),
        Fault::NoLength,
        Fault::Hangup,
        Fault::Silence,
        Fault::Status(200, "<html>log in</html>".to_owned()),
        Fault::Status(404, String::new()),
        Fault::Status(503, String::new()),
        Fault::TooManyRequests(Some("0".to_owned())),
        Fault::Redirect("http://127.0.0.1:1/nowhere".to_owned()),
    ];
    for fault in faults {
        for spared in [1, 2, 5] {
            let scene = Scene::new(Faults::none().after(spared, "/blobs/", fault.clone())).await;
            let (done, bytes) = come(&scene, far(), 0).await;
            assert!(done.is_ok(), "{fault:?} after {spared}: {done:?}");
            assert!(bytes == scene.blob, "{fault:?} after {spared}: the bytes differ");
            assert!(scene.ranges().len() <= 20, "{fault:?} after {spared}: {:?}", scene.ranges());
        }
    }
}

#[tokio::test]
async fn whatever_becomes_of_the_first_the_blob_comes_whole() {
    for fault in [
        Fault::IgnoreRange,
        Fault::NoRange,
        Fault::LyingRange(7),
        Fault::ResetAfter(3_000),
        Fault::EndAfter(3_000),
        Fault::StallAfter(3_000),
        Fault::Status(503, String::new()),
    ] {
        let scene = Scene::new(Faults::none().once("/blobs/", fault.clone())).await;
        let (done, bytes) = come(&scene, far(), 0).await;
        assert!(done.is_ok() && bytes == scene.blob, "{fault:?}: {done:?}");
    }
}

/// After trouble one connection has to do for a stretch, and then it is tried again.
#[tokio::test]
async fn after_trouble_it_goes_on_alone_for_a_while() {
    let scene = Scene::new(Faults::none().once("/blobs/", Fault::ResetAfter(5_000))).await;
    assert_eq!(comes(&scene, far(), 0).await.opened, 3);
    let asked = scene.ranges();
    let alone = asked.iter().position(|range| range.as_deref() == Some("bytes=5000-24999")).unwrap();
    assert_eq!(asked[alone + 1].as_deref(), Some("bytes=25000-34999"), "{asked:?}");
}

#[tokio::test]
async fn a_registry_that_never_serves_parts_is_asked_for_all_once() {
    for fault in [Fault::IgnoreRange, Fault::NoRange] {
        let scene = Scene::new(Faults::none().always("/blobs/", fault.clone())).await;
        comes(&scene, far(), 0).await;
        assert!(scene.ranges().len() <= 2, "{fault:?}: {:?}", scene.ranges());
    }
}

#[tokio::test]
async fn corrupt_bytes_of_a_piece_are_not_hidden() {
    let scene = Scene::new(Faults::none().after(3, "/blobs/", Fault::Corrupt(5_000))).await;
    let (done, bytes) = come(&scene, far(), 0).await;
    assert!(done.is_ok() && bytes.len() == scene.blob.len() && bytes != scene.blob);
}

/// Where the registry sent us for the first piece, the others are asked for; without what is for the registry alone.
#[tokio::test]
async fn a_storage_host_is_asked_directly_and_told_nothing() {
    let scene = Scene::new(Faults::none().always("/v2/some/image/blobs/", Fault::ToCdn)).await;
    scene.registry.require(Auth::TokenForAnybody);
    comes(&scene, far(), 0).await;
    let (elsewhere, here): (Vec<Seen>, Vec<Seen>) =
        scene.registry.seen_at("/blobs/").into_iter().partition(|seen| seen.cdn);
    assert!(elsewhere.iter().all(|seen| seen.authorization.is_none()), "{elsewhere:?}");
    assert_eq!(elsewhere.len(), 10);
    assert!(here.iter().filter(|seen| seen.authorization.is_some()).count() == 1, "{here:?}");
}

/// An address that was signed for a while is no good any more: the registry is asked for another.
#[tokio::test]
async fn an_address_that_expired_is_asked_for_anew() {
    let faults = Faults::none().always("/v2/some/image/blobs/", Fault::ToCdn).after(
        4,
        "/cdn/",
        Fault::Status(403, "<Error>Request has expired</Error>".to_owned()),
    );
    let scene = Scene::new(faults).await;
    assert_eq!(comes(&scene, far(), 0).await.opened, 2);
    assert_eq!(scene.registry.seen_at("/v2/some/image/blobs/").len(), 2);
    // That is no trouble: it goes on in pieces at once.
    assert!(!stretches(&scene), "{:?}", scene.ranges());
}

/// Whether some part was asked for that is longer than a piece.
fn stretches(scene: &Scene) -> bool {
    scene.ranges().iter().flatten().any(|range| {
        let (first, last) = range.trim_start_matches("bytes=").split_once('-').unwrap();
        last.parse().unwrap_or(usize::MAX) - first.parse::<usize>().unwrap() >= 10_000
    })
}

/// While the bytes before it still come, nothing is asked for that would be thrown away, of a server that may have too much to do.
#[tokio::test]
async fn behind_a_piece_that_failed_none_is_asked_for() {
    let busy = Fault::Status(503, String::new());
    let scene = Scene::new(Faults::none().once("/blobs/", Fault::HeldAfter(5_000)).times(3, "/blobs/", busy)).await;
    let together = async {
        until("three to fail", || scene.ranges().len() >= 4).await;
        scene.registry.behave();
    };
    tokio::join!(comes(&scene, patient(far()), 0), together);
    assert_eq!(scene.ranges()[4].as_deref(), Some("bytes=10000-29999"), "{:?}", scene.ranges());
}

/// One that does not let us in again soon after it did is asked for less.
#[tokio::test]
async fn an_address_that_expires_at_once_is_trouble() {
    let expired = Fault::Status(403, "<Error>Request has expired</Error>".to_owned());
    let scene = Scene::new(Faults::none().after(1, "/blobs/", expired)).await;
    assert_eq!(comes(&scene, far(), 0).await.opened, 3);
    assert!(stretches(&scene), "{:?}", scene.ranges());
}

/// Nobody is asked before the time that a piece was told; the registry neither, as it may be what counts requests.
#[tokio::test]
async fn what_a_piece_was_told_to_wait_is_waited() {
    let slower = Fault::TooManyRequests(Some("1".to_owned()));
    let faults = Faults::none().always("/v2/some/image/blobs/", Fault::ToCdn).after(3, "/cdn/", slower);
    let (scene, begun) = (Scene::new(faults).await, Instant::now());
    comes(&scene, far(), 0).await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    // Those that were under way, and from then on one after the other.
    let elsewhere = scene.registry.seen_at("/cdn/").len();
    assert!(elsewhere <= 14, "{:?}", scene.ranges());
}

/// Tokens are for all pieces; one that ran out is renewed.
#[tokio::test]
async fn a_token_that_ran_out_is_renewed() {
    let scene = Scene::new(Faults::none().once("/blobs/", Fault::HeldAfter(9_999))).await;
    scene.registry.require(Auth::TokenForAnybody);
    let together = async {
        until("the others to be asked for", || scene.ranges().len() >= 4).await;
        scene.registry.expire_tokens();
        scene.registry.behave();
    };
    tokio::join!(comes(&scene, patient(far()), 0), together);
    let with_token = scene.registry.seen_at("/blobs/").into_iter().filter(|seen| seen.authorization.is_some()).count();
    assert!(with_token >= 10, "{with_token}");
    assert_eq!(scene.registry.seen_at("/token").len(), 2);
    assert!(!stretches(&scene), "{:?}", scene.ranges());
}

/// A pull that is given up leaves nothing running.
#[tokio::test]
async fn pieces_end_with_whoever_wants_them() {
    let scene = Scene::new(Faults::none().always("/blobs/", Fault::HeldAfter(5_000))).await;
    let client = Arc::new(RegistryClient::new(patient(far())).unwrap());
    client.resolve(&scene.reference(), &Access::anonymous(true)).await.unwrap();
    let (reference, access, mut sink) = (scene.reference(), Scene::plain(), Memory::default());
    {
        let coming = client.fetch_into(&mut sink, &scene.layer, &reference, &access, &|_| {});
        let asked = until("all to be asked for", || scene.ranges().len() == 4);
        tokio::select! {
            done = coming => panic!("{done:?}"),
            () = asked => {}
        }
    }
    assert_eq!(sink.bytes, scene.blob[..5_000]);
    // Their places are free again, and nobody else has the client.
    until("the pieces to end", || Arc::strong_count(&client) == 1).await;
}

/// A server that refuses several at once is not asked for that again and again.
#[tokio::test]
async fn after_much_trouble_it_comes_by_one_connection() {
    let refused = Fault::Status(503, String::new());
    let faults = (0..100).fold(Faults::none(), |faults, nth| faults.after(2 + 3 * nth, "/blobs/", refused.clone()));
    let scene = Scene::new(faults).await;
    comes(&scene, ClientOptions { piece_bytes: 2_000, stretch_bytes: 4_000, ..far() }, 0).await;
    let to_the_end = scene.ranges().iter().flatten().filter(|range| range.ends_with('-')).count();
    assert!((1..=3).contains(&to_the_end) && scene.ranges().len() < 30, "{:?}", scene.ranges());
}
