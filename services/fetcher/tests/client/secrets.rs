//! Secrets go to whoever asked for them, and nowhere else.

use berth_fetcher::Access;
use berth_model::Code;
use berth_testing::hostile::{Auth, Fault, Faults};

use crate::kit::{Memory, Scene, assert_says, client};

#[tokio::test]
async fn the_storage_host_never_sees_a_token() {
    for auth in [Auth::TokenForAnybody, Auth::Basic("me".to_owned(), "x".to_owned())] {
        let scene = Scene::new(Faults::none()).await;
        scene.registry.require(auth);
        let client = client();
        let access = Access::with_user("me", "x", true);
        client.resolve(&scene.reference(), &access).await.unwrap();
        scene.registry.misbehave(Faults::none().always("/v2/some/image/blobs/", Fault::ToCdn));
        let mut sink = Memory::default();
        client.fetch_into(&mut sink, &scene.layer, &scene.reference(), &access, &|_| {}).await.unwrap();
        assert!(sink.bytes == scene.blob);
        let (cdn, registry): (Vec<_>, Vec<_>) =
            scene.registry.seen_at("/blobs/").into_iter().partition(|seen| seen.cdn);
        assert!(registry.iter().all(|seen| seen.authorization.is_some()));
        assert_eq!(cdn.len(), 1);
        assert!(cdn[0].authorization.is_none(), "{cdn:?}");
    }
}

#[tokio::test]
async fn the_storage_host_does_not_get_it_by_redirecting_to_itself() {
    let scene = Scene::new(Faults::none()).await;
    scene.registry.require(Auth::Basic("me".to_owned(), "x".to_owned()));
    let again = format!("/blobs/{}?again", scene.layer.digest);
    let faults = Faults::none().once("/v2/some/image/blobs/", Fault::ToCdn).once("/cdn/", Fault::Redirect(again));
    scene.registry.misbehave(faults);
    let access = Access::with_user("me", "x", true);
    let mut sink = Memory::default();
    client().fetch_into(&mut sink, &scene.layer, &scene.reference(), &access, &|_| {}).await.unwrap();
    let again = scene.registry.seen_at("?again");
    assert_eq!((again.len(), again[0].cdn, again[0].authorization.clone()), (1, true, None));
}

#[tokio::test]
async fn credentials_do_not_come_back_after_a_detour() {
    let scene = Scene::new(Faults::none()).await;
    scene.registry.require(Auth::Basic("me".to_owned(), "x".to_owned()));
    let there = format!("http://{{registry}}/v2/some/image/blobs/{}?back", scene.layer.digest);
    scene.registry.misbehave(
        Faults::none()
            .once("/detour", Fault::Redirect(there))
            .once("/manifests/", Fault::Redirect("http://{cdn}/detour".to_owned())),
    );
    client().resolve(&scene.reference(), &Access::with_user("me", "x", true)).await.unwrap();
    let back = scene.registry.seen_at("?back");
    assert_eq!(back.len(), 1);
    assert_eq!(back[0].authorization, None);
}

#[tokio::test]
async fn signed_urls_are_not_told() {
    let scene = Scene::new(
        Faults::none().always("/v2/some/image/blobs/", Fault::ToCdn).always("/cdn/", Fault::Status(403, String::new())),
    )
    .await;
    let (done, _) = scene.download().await;
    let status = done.unwrap_err();
    assert_eq!(status.code, Code::PermissionDenied);
    assert!(!status.message.contains("s3cr3t") && !status.message.contains("Signature"), "{status}");
}

#[tokio::test]
async fn signed_urls_are_asked_for_anew() {
    let scene = Scene::new(
        Faults::none().always("/v2/some/image/blobs/", Fault::ToCdn).once("/cdn/", Fault::ResetAfter(30_000)),
    )
    .await;
    assert_eq!(scene.downloads().await.opened, 2);
    let order: Vec<_> = scene.registry.seen_at("/blobs/").into_iter().map(|seen| seen.cdn).collect();
    assert_eq!(order, [false, true, false, true]);
}

#[tokio::test]
async fn redirects_end() {
    let scene =
        Scene::new(Faults::none().always("/manifests/", Fault::Redirect("/v2/some/image/manifests/again".to_owned())))
            .await;
    assert_says(scene.resolve().await, Code::FailedPrecondition, &["more than 10 redirects"]);
    assert_eq!(scene.registry.seen().len(), 11);
    let scene =
        Scene::new(Faults::none().always("/manifests/", Fault::Redirect("file:///etc/passwd".to_owned()))).await;
    assert_says(scene.resolve().await, Code::FailedPrecondition, &["redirects to a file: URL"]);
}

#[tokio::test]
async fn errors_hold_no_secret() {
    let scene = Scene::new(Faults::none()).await;
    scene.registry.require(Auth::Token("me".to_owned(), "right".to_owned()));
    let status = scene.resolve_as("me", "hunter2").await.unwrap_err();
    assert!(!format!("{status:?}").contains("hunter2"));
}
