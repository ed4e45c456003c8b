//! Hosts that are not there, or speak something else.

use berth_fetcher::{Access, ClientOptions, RegistryClient};
use berth_model::{Code, Reference};
use std::{sync::Arc, time::Duration};

use berth_testing::{
    docker_registry::DockerRegistry,
    hostile::Faults,
    image::{Image, ImageBuilder, Layer},
    push::Pusher,
};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use crate::kit::{Memory, Scene, assert_says, client, options, until};

#[tokio::test]
async fn loopback_falls_back_to_http_and_remembers() {
    let scene = Scene::new(Faults::none()).await;
    let client = client();
    for _ in 0..3 {
        let found = client.resolve(&scene.reference(), &Access::default()).await.unwrap();
        assert_eq!(found, scene.image.target);
    }
    assert_eq!(scene.registry.seen().len(), 3);
}

/// A client to which `name` is the scene's registry: a host elsewhere, as far as it knows.
fn elsewhere(scene: &Scene, name: &str) -> (RegistryClient, Reference) {
    let client = RegistryClient::new(ClientOptions {
        static_hosts: vec![(name.to_owned(), scene.registry.address())],
        ..options()
    })
    .unwrap();
    let reference = format!("{name}:{}/some/image:v1", scene.registry.address().port());
    (client, reference.parse().unwrap())
}

#[tokio::test]
async fn http_elsewhere_names_the_remedy() {
    let scene = Scene::new(Faults::none()).await;
    let (client, reference) = elsewhere(&scene, "registry.test");
    let refused = client.resolve(&reference, &Access::default()).await;
    assert_says(refused, Code::FailedPrecondition, &["registry.test", "--plain-http"]);
    assert!(client.resolve(&reference, &Access::anonymous(true)).await.is_ok());
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let reference: Reference = format!("{host}/some/image:v1").parse().unwrap();
    for plain_http in [true, false] {
        let result = client().resolve(&reference, &Access::anonymous(plain_http)).await;
        assert_says(result, Code::Unavailable, &[&host, "refused", "some/image:v1"]);
    }
}

#[tokio::test]
async fn a_host_without_an_address() {
    let reference: Reference = "no-such-host.invalid/some/image:v1".parse().unwrap();
    // A resolver without a network may take its time.
    let patient = ClientOptions { response_timeout: Duration::from_secs(60), attempts: 1, ..options() };
    let result = RegistryClient::new(patient).unwrap().resolve(&reference, &Access::default()).await;
    assert_says(result, Code::Unavailable, &["unknown host no-such-host.invalid", "check the spelling"]);
}

/// Puts TLS with a certificate that nobody signed in front of the scene's registry; gives the port.
async fn with_tls(scene: &Scene) -> u16 {
    tls_offering(scene, watch::channel(&[][..]).1).await
}

/// As [`with_tls`], and agrees on one of these versions of HTTP; HTTP/2 it can't speak, and hangs up. When they change, all
/// connections end.
async fn tls_offering(scene: &Scene, mut versions: watch::Receiver<&'static [&'static str]>) -> u16 {
    let made = rcgen::generate_simple_self_signed(vec!["registry.test".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let backend = scene.registry.address();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut config = config.clone();
            config.alpn_protocols =
                versions.borrow_and_update().iter().map(|version| version.as_bytes().to_vec()).collect();
            let (acceptor, mut versions) = (TlsAcceptor::from(Arc::new(config)), versions.clone());
            tokio::spawn(async move {
                // A client that hangs up is what one of the tests is about.
                let Ok(mut front) = acceptor.accept(stream).await else { return };
                if front.get_ref().1.alpn_protocol() == Some(b"h2") {
                    return;
                }
                let mut back = TcpStream::connect(backend).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut front, &mut back) => {}
                    Ok(()) = versions.changed() => {}
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn loopback_with_tls_needs_no_certificate() {
    let scene = Scene::new(Faults::none()).await;
    let reference: Reference = format!("127.0.0.1:{}/some/image:v1", with_tls(&scene).await).parse().unwrap();
    let client = client();
    assert_eq!(client.resolve(&reference, &Access::default()).await.unwrap(), scene.image.target);
    assert_eq!(client.resolve(&reference, &Access::default()).await.unwrap(), scene.image.target);
    assert_eq!(scene.registry.seen_at("/v2/some").len(), 2);
}

/// A middle box that agrees on HTTP/2 and breaks it, for one.
#[tokio::test]
async fn where_http_2_does_not_work_it_goes_on_by_http_1() {
    let scene = Scene::new(Faults::none()).await;
    let (versions, offered) = watch::channel(&["http/1.1"][..]);
    let port = tls_offering(&scene, offered).await;
    let reference: Reference = format!("127.0.0.1:{port}/some/image:v1").parse().unwrap();
    let client = client();
    for times in 1..=3 {
        let found = client.resolve(&reference, &Access::default()).await;
        assert_eq!(found.unwrap(), scene.image.target);
        assert_eq!(scene.registry.seen_at("/v2/some").len(), times);
        if times == 1 {
            versions.send_replace(&["h2", "http/1.1"]);
        }
    }
}

#[tokio::test]
async fn a_certificate_nobody_signed_is_refused_elsewhere() {
    let scene = Scene::new(Faults::none()).await;
    let port = with_tls(&scene).await;
    let (client, _) = elsewhere(&scene, "registry.test");
    let reference: Reference = format!("registry.test:{port}/some/image:v1").parse().unwrap();
    let result = client.resolve(&reference, &Access::default()).await;
    assert_says(result, Code::FailedPrecondition, &["certificate of registry.test", "SSL_CERT_FILE"]);
    assert!(scene.registry.seen().is_empty());
}

#[tokio::test]
async fn a_loopback_server_that_waits_for_a_line_is_taken_for_http() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut first = [0];
            if stream.read_exact(&mut first).await.is_ok() && first[0].is_ascii_uppercase() {
                let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(answer).await.ok();
            }
            kept.push(stream);
        }
    });
    let reference: Reference = format!("{host}/some/image:v1").parse().unwrap();
    let result = client().resolve(&reference, &Access::default()).await;
    assert_says(result, Code::NotFound, &["404"]);
}

/// Relays to a port of this machine; connections made before the last order to freeze pass nothing on, and stay open.
async fn freezing(port: u16, order: watch::Receiver<u32>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut frozen = Vec::new();
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut front, _)) = listener.accept().await {
            while let Some(done) = connections.try_join_next() {
                frozen.push(done);
            }
            let mut order = order.clone();
            order.mark_unchanged();
            connections.spawn(async move {
                let mut back = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut front, &mut back) => {}
                    _ = order.changed() => {}
                }
                (front, back)
            });
        }
    });
    own
}

/// A real registry that speaks HTTP/2, with an image at `some/image:v1`; its layer has 100,000 bytes.
async fn speaking_http_2() -> (DockerRegistry, Image) {
    let mut registry = DockerRegistry::start().unwrap();
    let image = ImageBuilder::new().layer(Layer::new().random_file("a", 100_000, 1)).build();
    let pusher = Pusher::new(&registry.host(), "some/image", None).unwrap();
    for (digest, bytes) in image.blobs.iter().filter(|(digest, _)| **digest != image.target.digest) {
        pusher.blob(&digest.to_string(), bytes.clone()).await.unwrap();
    }
    let manifest = image.blobs[&image.target.digest].clone();
    pusher.manifest("v1", image.target.media_type.as_str(), manifest).await.unwrap();
    registry.speak_tls().unwrap();
    (registry, image)
}

/// A large answer has a connection of its own; of a server that is far, one may come by the one that is there.
#[tokio::test]
async fn what_is_large_does_not_share_a_connection() {
    let (registry, image) = speaking_http_2().await;
    let reference: Reference = format!("{}/some/image:v1", registry.host()).parse().unwrap();
    let layer = &image.layers[0].digest.to_string();
    for (far, large_bytes, http_2, version) in [
        (Duration::from_secs(60), 1_000_000, true, "2.0"),
        (Duration::from_secs(60), 50_000, true, "1.1"),
        (Duration::ZERO, 50_000, true, "2.0"),
        (Duration::ZERO, 50_000, false, "1.1"),
    ] {
        let client = Arc::new(
            RegistryClient::new(ClientOptions { far, large_bytes, http_2, ..ClientOptions::default() }).unwrap(),
        );
        client.resolve(&reference, &Access::default()).await.unwrap();
        let (before, mut sink) = (registry.log().len(), Memory::default());
        client.fetch_into(&mut sink, &image.layers[0], &reference, &Access::default(), &|_| {}).await.unwrap();
        assert!(sink.bytes == image.blobs[&image.layers[0].digest]);
        let asked = format!("{layer} HTTP/{version}\"");
        until("the registry to say so", || registry.log()[before..].contains(&asked)).await;
    }
}

/// A connection that many requests share must not take them all along when the network loses it.
#[tokio::test]
async fn a_shared_connection_that_falls_silent_is_replaced() {
    let (registry, image) = speaking_http_2().await;
    let (order, frozen) = watch::channel(0);
    let port = freezing(registry.host().rsplit_once(':').unwrap().1.parse().unwrap(), frozen).await;
    let reference: Reference = format!("127.0.0.1:{port}/some/image:v1").parse().unwrap();
    let client = RegistryClient::new(ClientOptions {
        // The answer itself would be waited for much longer.
        response_timeout: Duration::from_secs(60),
        ping_interval: Duration::from_millis(500),
        ping_timeout: Duration::from_millis(500),
        probe_timeout: Duration::from_secs(10),
        ..options()
    })
    .unwrap();
    for times in 1..=3 {
        let found = tokio::time::timeout(Duration::from_secs(30), client.resolve(&reference, &Access::default())).await;
        assert_eq!(found.expect("it waits for a connection that is lost").unwrap(), image.target);
        order.send_replace(times);
    }
    assert!(registry.requests(" HTTP/2.0\"") >= 3, "{}", registry.log());
}
