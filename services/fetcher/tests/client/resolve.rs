//! From a reference to a descriptor, against registries that answer oddly.

use berth_model::{Code, Digest, media_type};
use berth_testing::{
    hostile::{Fault, Faults},
    image::index,
};

use crate::kit::{Scene, assert_says, client};

#[tokio::test]
async fn a_tag_takes_one_head_request() {
    let scene = Scene::new(Faults::none()).await;
    assert_eq!(scene.resolve().await.unwrap(), scene.image.target);
    let seen = scene.registry.seen();
    assert_eq!((seen.len(), seen[0].method.as_str()), (1, "HEAD"));
}

#[tokio::test]
async fn an_index_and_a_digest_resolve() {
    let scene = Scene::new(Faults::none()).await;
    let list = index(std::slice::from_ref(&scene.image));
    scene.registry.add_image("some/image", "list", &list);
    let by_digest = format!("{}/some/image@{}", scene.registry.host(), list.target.digest);
    let found = client().resolve(&by_digest.parse().unwrap(), &Scene::plain()).await.unwrap();
    assert_eq!(found, list.target);
}

#[tokio::test]
async fn head_is_refused() {
    let scene = Scene::new(Faults::none().always("/manifests/", Fault::NoHead)).await;
    assert_eq!(scene.resolve().await.unwrap(), scene.image.target);
}

#[tokio::test]
async fn digest_or_length_is_missing() {
    for fault in [Fault::NoDigest, Fault::NoLength] {
        let scene = Scene::new(Faults::none().always("/manifests/", fault)).await;
        assert_eq!(scene.resolve().await.unwrap(), scene.image.target);
    }
}

#[tokio::test]
async fn the_media_type_is_not_told() {
    for said in ["application/json", "text/plain; charset=utf-8", "application/octet-stream"] {
        let scene = Scene::new(Faults::none().always("/manifests/", Fault::ContentType(said.to_owned()))).await;
        assert_eq!(scene.resolve().await.unwrap().media_type.as_str(), media_type::OCI_MANIFEST);
    }
}

#[tokio::test]
async fn a_missing_tag_names_the_remedy() {
    let scene = Scene::new(Faults::none()).await;
    let reference = scene.registry.reference("some/image", "nope");
    let result = client().resolve(&reference.parse().unwrap(), &Scene::plain()).await;
    assert_says(result, Code::NotFound, &[&reference, "check the name and the tag", "--user"]);
}

#[tokio::test]
async fn schema_1_is_refused() {
    let scene = Scene::new(Faults::none()).await;
    scene.registry.add_manifest(
        "some/image",
        "v1",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        r#"{"schemaVersion":1}"#,
    );
    assert_says(scene.resolve().await, Code::InvalidArgument, &["schema 1"]);
}

#[tokio::test]
async fn what_is_no_image_is_refused() {
    let scene = Scene::new(Faults::none()).await;
    scene.registry.add_manifest("some/image", "v1", "text/html", "<html>welcome</html>");
    assert_says(scene.resolve().await, Code::InvalidArgument, &["not valid"]);
}

#[tokio::test]
async fn another_digest_than_asked_for() {
    let scene = Scene::new(Faults::none()).await;
    let other = Digest::of(b"other").to_string();
    scene.registry.misbehave(Faults::none().always("/manifests/", Fault::WrongDigest(other.clone())));
    let by_digest = format!("{}/some/image@{}", scene.registry.host(), scene.image.target.digest);
    let result = client().resolve(&by_digest.parse().unwrap(), &Scene::plain()).await;
    assert_says(result, Code::FailedPrecondition, &[&other, "cannot be trusted"]);
}

#[tokio::test]
async fn a_huge_manifest_is_refused() {
    let scene = Scene::new(Faults::none()).await;
    scene.registry.add_manifest("some/image", "v1", media_type::OCI_MANIFEST, vec![b' '; 5 << 20]);
    assert_says(scene.resolve().await, Code::FailedPrecondition, &["a manifest has at most"]);
    scene.registry.misbehave(Faults::none().always("/manifests/", Fault::NoHead));
    assert_says(scene.resolve().await, Code::FailedPrecondition, &["larger than"]);
}

#[tokio::test]
async fn trouble_passes() {
    for fault in [
        Fault::Status(500, String::new()),
        Fault::Status(503, "<html>".to_owned()),
        Fault::Status(408, String::new()),
        Fault::TooManyRequests(None),
        Fault::TooManyRequests(Some("0".to_owned())),
        Fault::Hangup,
        Fault::Silence,
    ] {
        let scene = Scene::new(Faults::none().times(2, "/manifests/", fault.clone())).await;
        assert_eq!(scene.resolve().await.unwrap(), scene.image.target, "{fault:?}");
        assert_eq!(scene.registry.seen().len(), 3, "{fault:?}");
    }
}

#[tokio::test]
async fn trouble_that_does_not_pass_ends() {
    let scene = Scene::new(Faults::none().always("/manifests/", Fault::Status(502, "<html>".to_owned()))).await;
    assert_says(scene.resolve().await, Code::Unavailable, &["some/image:v1", "502"]);
    assert_eq!(scene.registry.seen().len(), 6);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let scene = Scene::new(Faults::none().once("/manifests/", Fault::TooManyRequests(Some("1".to_owned())))).await;
    let start = std::time::Instant::now();
    scene.resolve().await.unwrap();
    assert!(start.elapsed().as_millis() >= 1000);
}

#[tokio::test]
async fn a_retry_after_beyond_reason_ends() {
    let scene = Scene::new(Faults::none().always("/manifests/", Fault::TooManyRequests(Some("3600".to_owned())))).await;
    assert_says(scene.resolve().await, Code::ResourceExhausted, &["3600 s", "--user"]);
    assert_eq!(scene.registry.seen().len(), 1);
}

#[tokio::test]
async fn a_held_registry_holds_all_requests() {
    let scene = Scene::new(Faults::none().once("/manifests/", Fault::TooManyRequests(Some("1".to_owned())))).await;
    let (client, reference, plain) = (client(), scene.reference(), Scene::plain());
    let all = futures::future::join_all((0..5).map(|_| client.resolve(&reference, &plain))).await;
    assert!(all.iter().all(Result::is_ok));
    assert!(scene.registry.seen().len() <= 10);
}

#[tokio::test]
async fn refusals_are_final() {
    for (status, code) in [(403, Code::PermissionDenied), (400, Code::InvalidArgument), (501, Code::FailedPrecondition)]
    {
        let body = r#"{"errors":[{"code":"DENIED","message":"the owner said no"}]}"#.to_owned();
        let scene = Scene::new(Faults::none().always("/manifests/", Fault::Status(status, body))).await;
        assert_says(scene.resolve().await, code, &["DENIED: the owner said no"]);
        assert_eq!(scene.registry.seen().len(), 2, "HEAD, and GET for the reason");
    }
}
