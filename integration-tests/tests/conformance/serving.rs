//! What the server says of itself: version, plugins, health, reflection; and what it does not offer.

use berth_model::Code;
use berth_wire::containerd::{introspection as api, mounts, version};

use crate::home::{Home, NS, refused, words};

async fn the_server_says_what_it_is(home: Home) {
    let mut client = version::version_client::VersionClient::new(home.channel.clone());
    let found = client.version(()).await.unwrap().into_inner();
    assert_eq!((found.version.as_str(), found.revision.as_str()), ("1.2.3", "abc"));
    let mut client = api::introspection_client::IntrospectionClient::new(home.channel.clone());
    let server = client.server(()).await.unwrap().into_inner();
    assert_eq!((server.uuid.len(), server.pid), (36, u64::from(std::process::id())));
    assert!(server.pidns > 0);
    assert_eq!(client.server(()).await.unwrap().into_inner().uuid, server.uuid);

    let plugins = client.plugins(api::PluginsRequest::default()).await.unwrap().into_inner().plugins;
    assert!(plugins.iter().all(|plugin| plugin.init_err.is_none() && !plugin.id.is_empty()));
    let filters = words(&["type==io.containerd.snapshotter.v1,id==overlayfs"]);
    let found = client.plugins(api::PluginsRequest { filters }).await.unwrap().into_inner().plugins;
    assert_eq!(found.len(), 1);
    assert!(found[0].capabilities.contains(&"rebase".to_owned()), "clients unpack in parallel if it says so");
    assert_eq!(found[0].platforms[0].os, "linux");
    refused(client.plugins(api::PluginsRequest { filters: words(&["type="]) }).await, Code::InvalidArgument, "filter");
    let info = |id: &str| api::PluginInfoRequest { r#type: found[0].r#type.clone(), id: id.into(), options: None };
    let one = client.plugin_info(info("overlayfs")).await.unwrap().into_inner().plugin.unwrap();
    assert_eq!(one, found[0]);
    refused(client.plugin_info(info("zfs")).await, Code::NotFound, "zfs");
}

async fn health_and_descriptions_can_be_asked_for(home: Home) {
    let mut health = tonic_health::pb::health_client::HealthClient::new(home.channel.clone());
    let found = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(found.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);

    use tonic_reflection::pb::v1 as reflection;
    let mut client = reflection::server_reflection_client::ServerReflectionClient::new(home.channel.clone());
    let ask = |question| {
        let request = reflection::ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        tokio_stream::once(request)
    };
    use reflection::server_reflection_request::MessageRequest;
    use reflection::server_reflection_response::MessageResponse;
    let mut answers =
        client.server_reflection_info(ask(MessageRequest::ListServices(String::new()))).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(services) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    for service in ["containerd.services.content.v1.Content", "grpc.health.v1.Health", "berth.v1.Images"] {
        assert!(names.iter().any(|name| name == service), "{service} is not in {names:?}");
    }
    let question = MessageRequest::FileContainingSymbol("containerd.services.leases.v1.Leases".into());
    let mut answers = client.server_reflection_info(ask(question)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
}

async fn mounts_are_not_made_here(home: Home) {
    let mut client = home.mounts(NS);
    refused(client.activate(mounts::ActivateRequest::default()).await, Code::Unimplemented, "mount");
    refused(client.info(mounts::InfoRequest::default()).await, Code::Unimplemented, "mount");
    let mut listed = client.list(mounts::ListRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.message().await.unwrap(), None);
    refused(
        home.mounts("").list(mounts::ListRequest::default()).await,
        Code::FailedPrecondition,
        "namespace is required",
    );
}

crate::in_every_home! {
    the_server_says_what_it_is
    health_and_descriptions_can_be_asked_for
    mounts_are_not_made_here
}
