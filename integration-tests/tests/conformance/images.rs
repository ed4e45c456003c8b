//! The images service.

use std::time::SystemTime;

use berth_model::Code;
use berth_wire::containerd::{images as api, leases, types::Descriptor};
use prost_types::Timestamp;

use crate::home::{Home, NS, between, digest, labels, mask, refused, words};
use crate::writer::put;

fn image(name: &str, pairs: &[(&str, &str)]) -> api::Image {
    let target = Descriptor {
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        digest: digest(name.as_bytes()),
        size: 7,
        annotations: labels(&[("x.y/z", "1")]),
    };
    api::Image { name: name.into(), labels: labels(pairs), target: Some(target), ..Default::default() }
}

fn create(image: api::Image) -> api::CreateImageRequest {
    api::CreateImageRequest { image: Some(image), source_date_epoch: None }
}

fn update(image: api::Image, paths: &[&str]) -> api::UpdateImageRequest {
    api::UpdateImageRequest { image: Some(image), update_mask: mask(paths), source_date_epoch: None }
}

fn get(name: &str) -> api::GetImageRequest {
    api::GetImageRequest { name: name.into() }
}

fn delete(name: &str) -> api::DeleteImageRequest {
    api::DeleteImageRequest { name: name.into(), ..Default::default() }
}

async fn names(home: &Home, filters: &[&str]) -> Vec<String> {
    let request = api::ListImagesRequest { filters: words(filters) };
    let found = home.images(NS).list(request).await.unwrap().into_inner().images;
    found.into_iter().map(|image| image.name).collect()
}

async fn an_image_is_made_once(home: Home) {
    let mut client = home.images(NS);
    let before = SystemTime::now();
    let long_ago = Some(Timestamp { seconds: 5, nanos: 0 });
    let given = api::Image { created_at: long_ago, updated_at: long_ago, ..image("a", &[("k", "v"), ("empty", "")]) };
    let made = client.create(create(given)).await.unwrap().into_inner().image.unwrap();
    assert_eq!((&made.labels, &made.target), (&labels(&[("k", "v")]), &image("a", &[]).target));
    between(made.created_at.as_ref(), before, SystemTime::now());
    assert_eq!(made.created_at, made.updated_at);
    assert_eq!(client.get(get("a")).await.unwrap().into_inner().image.unwrap(), made);
    refused(client.create(create(image("a", &[]))).await, Code::AlreadyExists, "\"a\"");
    refused(client.get(get("b")).await, Code::NotFound, "\"b\"");
    refused(home.images("other").get(get("a")).await, Code::NotFound, "other");
    let target = |change: fn(&mut Descriptor)| {
        let mut bad = image("bad", &[]);
        change(bad.target.as_mut().unwrap());
        bad
    };
    for (bad, word) in [
        (api::Image { name: String::new(), ..image("x", &[]) }, "name"),
        (api::Image { target: None, ..image("x", &[]) }, "target"),
        (target(|target| target.digest = "sha256:1".into()), "digest"),
        (target(|target| target.digest = String::new()), "digest"),
        (target(|target| target.size = 0), "size"),
        (target(|target| target.size = -1), "size"),
        (target(|target| target.media_type = String::new()), "media type"),
        (image("x", &[("k", &"v".repeat(4096))]), "label"),
    ] {
        refused(client.create(create(bad)).await, Code::InvalidArgument, word);
    }
    refused(client.create(api::CreateImageRequest::default()).await, Code::InvalidArgument, "image");
    let fixed = api::CreateImageRequest { source_date_epoch: long_ago, ..create(image("fixed", &[])) };
    let made = client.create(fixed).await.unwrap().into_inner().image.unwrap();
    assert_eq!((made.created_at, made.updated_at), (long_ago, long_ago));
}

async fn masks_say_what_changes(home: Home) {
    let mut client = home.images(NS);
    let other = |pairs: &[(&str, &str)]| {
        let mut other = image("a", pairs);
        let target = other.target.as_mut().unwrap();
        target.digest = digest(b"other");
        target.size = 9;
        target.annotations = labels(&[("x.y/z", "2"), ("n", "3")]);
        other
    };
    for (paths, moved, keys, notes) in [
        (&["labels"][..], false, &[("k", "2"), ("l", "3")][..], &[("x.y/z", "1")][..]),
        (&["labels.l"], false, &[("k", "1"), ("l", "3")], &[("x.y/z", "1")]),
        (&["labels.k", "labels.gone"], false, &[("k", "2")], &[("x.y/z", "1")]),
        (&["target"], true, &[("k", "1")], &[("x.y/z", "2"), ("n", "3")]),
        (&["annotations"], false, &[("k", "1")], &[("x.y/z", "2"), ("n", "3")]),
        (&["annotations.x.y/z"], false, &[("k", "1")], &[("x.y/z", "2")]),
        (&[], true, &[("k", "2"), ("l", "3")], &[("x.y/z", "2"), ("n", "3")]),
    ] {
        let made = client.create(create(image("a", &[("k", "1")]))).await.unwrap().into_inner().image.unwrap();
        let before = SystemTime::now();
        let changed = client.update(update(other(&[("k", "2"), ("l", "3")]), paths)).await.unwrap();
        let changed = changed.into_inner().image.unwrap();
        let target = changed.target.as_ref().unwrap();
        assert_eq!(changed.labels, labels(keys), "{paths:?}");
        assert_eq!(target.annotations, labels(notes), "{paths:?}");
        assert_eq!(target.size == 9 && target.digest == digest(b"other"), moved, "{paths:?}");
        assert_eq!(changed.created_at, made.created_at);
        between(changed.updated_at.as_ref(), before, SystemTime::now());
        assert_eq!(client.get(get("a")).await.unwrap().into_inner().image.unwrap(), changed);
        client.delete(delete("a")).await.unwrap();
    }
    refused(client.update(update(image("a", &[]), &[])).await, Code::NotFound, "\"a\"");
    client.create(create(image("a", &[]))).await.unwrap();
    for path in ["name", "created_at", "target.size", "labels.", ""] {
        refused(client.update(update(image("a", &[]), &[path])).await, Code::InvalidArgument, "update");
    }
    let gone = api::Image { target: None, ..image("a", &[]) };
    refused(client.update(update(gone.clone(), &["target"])).await, Code::InvalidArgument, "target");
    refused(client.update(update(gone, &[])).await, Code::InvalidArgument, "target");
    refused(client.update(api::UpdateImageRequest::default()).await, Code::InvalidArgument, "image");
}

async fn lists_are_filtered(home: Home) {
    for (name, label) in [("docker.io/a:1", "x"), ("docker.io/b:1", "y"), ("quay.io/a:1", "x")] {
        home.images(NS).create(create(image(name, &[("k.l/m", label)]))).await.unwrap();
    }
    home.images("other").create(create(image("elsewhere", &[]))).await.unwrap();
    let second = digest(b"docker.io/b:1");
    for (filters, found) in [
        (&[][..], &["docker.io/a:1", "docker.io/b:1", "quay.io/a:1"][..]),
        (&["name==docker.io/b:1"], &["docker.io/b:1"]),
        (&["name~=^docker"], &["docker.io/a:1", "docker.io/b:1"]),
        (&["labels.\"k.l/m\"==x,name~=quay"], &["quay.io/a:1"]),
        (&["labels.\"k.l/m\"==y", "name~=quay"], &["docker.io/b:1", "quay.io/a:1"]),
        (&[&format!("target.digest=={second}")], &["docker.io/b:1"]),
        (&["target.mediatype~=index"], &[]),
        (&["annotations.\"x.y/z\"==1,name!=\"quay.io/a:1\""], &["docker.io/a:1", "docker.io/b:1"]),
    ] {
        assert_eq!(names(&home, filters).await, found, "{filters:?}");
    }
    let bad = api::ListImagesRequest { filters: words(&["name="]) };
    refused(home.images(NS).list(bad).await, Code::InvalidArgument, "filter");
    refused(
        home.images("").list(api::ListImagesRequest::default()).await,
        Code::FailedPrecondition,
        "namespace is required",
    );
}

async fn a_deletion_may_insist_on_its_target(home: Home) {
    let mut client = home.images(NS);
    client.create(create(image("a", &[]))).await.unwrap();
    let other = Descriptor { digest: digest(b"other"), ..Default::default() };
    let with = |target: Descriptor| api::DeleteImageRequest { target: Some(target), ..delete("a") };
    refused(client.delete(with(other)).await, Code::NotFound, "target");
    assert_eq!(names(&home, &[]).await, ["a"]);
    client.delete(with(image("a", &[]).target.unwrap())).await.unwrap();
    refused(client.delete(delete("a")).await, Code::NotFound, "\"a\"");
    assert_eq!(names(&home, &[]).await, Vec::<String>::new());
}

/// `sync`: when it is answered, what only the image kept is gone, and what others keep is not.
async fn a_deletion_may_wait_for_the_collection(home: Home) {
    let kept = put(&home, NS, "k", b"kept").await;
    let lost = put(&home, NS, "l", b"lost").await;
    for (name, blob) in [("a", &lost), ("b", &kept)] {
        let mut image = image(name, &[]);
        image.target.as_mut().unwrap().digest.clone_from(blob);
        home.images(NS).create(create(image)).await.unwrap();
    }
    home.images(NS).delete(api::DeleteImageRequest { sync: true, ..delete("a") }).await.unwrap();
    assert_eq!(home.blob_files(), 1);
    let info = |digest: &str| berth_wire::containerd::content::InfoRequest { digest: digest.into() };
    home.content(NS).info(info(&kept)).await.unwrap();
    refused(home.content(NS).info(info(&lost)).await, Code::NotFound, &lost);
}

async fn an_image_that_ends_is_leased(home: Home) {
    let lease = leases::CreateRequest { id: "l".into(), ..Default::default() };
    home.leases(NS).create(lease).await.unwrap();
    let wire = |lease: &str| api::images_client::ImagesClient::new(home.wire(NS, lease));
    let ends = [("containerd.io/gc.expire", "2100-01-01T00:00:00Z")];
    wire("l").create(create(image("ends", &ends))).await.unwrap();
    wire("l").create(create(image("stays", &[]))).await.unwrap();
    let listed = home.leases(NS).list_resources(leases::ListResourcesRequest { id: "l".into() }).await.unwrap();
    let listed: Vec<_> = listed.into_inner().resources.into_iter().map(|named| (named.r#type, named.id)).collect();
    assert_eq!(listed, [("images".to_owned(), "ends".to_owned())]);
    refused(wire("gone").create(create(image("x", &[]))).await, Code::NotFound, "lease does not exist");
}

crate::in_every_home! {
    an_image_is_made_once
    masks_say_what_changes
    lists_are_filtered
    a_deletion_may_insist_on_its_target
    a_deletion_may_wait_for_the_collection
    an_image_that_ends_is_leased
}
