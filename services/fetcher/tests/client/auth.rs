//! Registries that want to know who asks.

use berth_fetcher::Access;
use berth_model::Code;
use berth_testing::hostile::{Auth, Fault, Faults};

use crate::kit::{Memory, Scene, assert_says, client};

fn me() -> (String, String) {
    ("me".to_owned(), "pass:word".to_owned())
}

async fn guarded(auth: Auth) -> Scene {
    let scene = Scene::new(Faults::none()).await;
    scene.registry.require(auth);
    scene
}

#[tokio::test]
async fn basic() {
    let scene = guarded(Auth::Basic(me().0, me().1)).await;
    assert_eq!(scene.resolve_as("me", "pass:word").await.unwrap(), scene.image.target);
    assert_says(
        scene.resolve().await,
        Code::Unauthenticated,
        &["needs credentials", "--user NAME[:PASSWORD]", "some/image:v1"],
    );
    assert_says(scene.resolve_as("me", "wrong").await, Code::Unauthenticated, &["refused the credentials for user me"]);
}

#[tokio::test]
async fn a_token_for_anybody() {
    let scene = guarded(Auth::TokenForAnybody).await;
    assert_eq!(scene.resolve().await.unwrap(), scene.image.target);
    let asked = scene.registry.seen_at("/token");
    assert_eq!((asked.len(), asked[0].authorization.clone()), (1, None));
    assert!(asked[0].path.contains("scope=repository%3Asome%2Fimage%3Apull"), "{}", asked[0].path);
    assert!(asked[0].path.contains("service=hostile%2C+%22inc%22"), "{}", asked[0].path);
}

#[tokio::test]
async fn a_token_for_a_user() {
    let scene = guarded(Auth::Token(me().0, me().1)).await;
    assert_eq!(scene.resolve_as("me", "pass:word").await.unwrap(), scene.image.target);
    assert_says(scene.resolve().await, Code::Unauthenticated, &["needs credentials"]);
    assert_says(scene.resolve_as("me", "wrong").await, Code::Unauthenticated, &["refused the credentials for user me"]);
}

#[tokio::test]
async fn a_token_that_does_not_do() {
    let scene = guarded(Auth::TokenWithRight(me().0, me().1)).await;
    assert_eq!(scene.resolve_as("me", "pass:word").await.unwrap(), scene.image.target);
    assert_says(scene.resolve().await, Code::Unauthenticated, &["needs credentials", "check the name"]);
}

#[tokio::test]
async fn an_identity_token() {
    let scene = guarded(Auth::IdentityToken("id-1".to_owned())).await;
    assert_eq!(scene.resolve_as("<token>", "id-1").await.unwrap(), scene.image.target);
    assert_says(
        scene.resolve_as("", "id-2").await,
        Code::Unauthenticated,
        &["refused the credentials for the given token"],
    );
}

#[tokio::test]
async fn tokens_are_kept_and_asked_for_once() {
    let scene = guarded(Auth::TokenForAnybody).await;
    let (client, reference, plain) = (client(), scene.reference(), Scene::plain());
    client.resolve(&reference, &plain).await.unwrap();
    let all = futures::future::join_all((0..8).map(|_| client.resolve(&reference, &plain))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(scene.registry.seen_at("/token").len(), 1);
    assert_eq!(scene.registry.seen().len(), 2 + 1 + 8);
}

#[tokio::test]
async fn tokens_are_not_shared_between_askers() {
    let scene = guarded(Auth::Token(me().0, me().1)).await;
    let (client, reference) = (client(), scene.reference());
    client.resolve(&reference, &Access::with_user("me", "pass:word", true)).await.unwrap();
    assert!(client.resolve(&reference, &Scene::plain()).await.is_err());
    assert!(client.resolve(&reference, &Access::with_user("me", "x", true)).await.is_err());
}

#[tokio::test]
async fn a_token_that_ended_in_the_middle_is_renewed() {
    let scene = guarded(Auth::TokenForAnybody).await;
    let client = client();
    client.resolve(&scene.reference(), &Scene::plain()).await.unwrap();
    scene.registry.misbehave(Faults::none().once("/blobs/", Fault::ResetAfter(30_000)));
    let registry = &scene.registry;
    let mut sink = Memory::default();
    client
        .fetch_into(&mut sink, &scene.layer, &scene.reference(), &Scene::plain(), &|offset| {
            if offset < 50_000 {
                registry.expire_tokens();
            }
        })
        .await
        .unwrap();
    assert!(sink.bytes == scene.blob);
    assert!(registry.seen_at("/token").len() >= 2);
}

#[tokio::test]
async fn passwords_do_not_go_to_a_realm_without_tls() {
    // Plain HTTP to hosts elsewhere is covered by the table beside the rule; the registry here is on loopback.
    let scene = guarded(Auth::Realm("ftp://{registry}/token".to_owned())).await;
    assert_says(scene.resolve_as("me", "s3cr3t").await, Code::FailedPrecondition, &["not HTTPS", "some/image:v1"]);
}

#[tokio::test]
async fn an_authentication_nobody_speaks() {
    let scene = guarded(Auth::Negotiate).await;
    assert_says(scene.resolve_as("me", "x").await, Code::Unauthenticated, &["only Bearer and Basic"]);
}

#[tokio::test]
async fn a_token_server_in_trouble() {
    let scene = guarded(Auth::TokenForAnybody).await;
    scene.registry.misbehave(Faults::none().times(2, "/token", Fault::Status(503, String::new())));
    assert_eq!(scene.resolve().await.unwrap(), scene.image.target);
    scene.registry.misbehave(Faults::none().once("/token", Fault::Status(200, "<html>".to_owned())));
    assert_says(scene.resolve().await, Code::FailedPrecondition, &["token server", "no JSON"]);
    scene.registry.misbehave(Faults::none().once("/token", Fault::Status(404, String::new())));
    assert_says(scene.resolve().await, Code::NotFound, &["token", "404"]);
}
